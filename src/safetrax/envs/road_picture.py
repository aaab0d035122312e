"""MetaDrive's road from above, drawn without a window. Imported after the simulator, which needs help for that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from metadrive.component.vehicle.base_vehicle import BaseVehicle
from metadrive.constants import LineColor, LineType
from PIL import Image, ImageDraw


class Artist:
    """Draws the road of this episode from above. The simulator's own view takes a window's software and is slower."""

    SIZE, SCALE = (480, 360), 6.0  # width and height in pixels, pixels per metre
    AHEAD = 8.0  # metres from the ego vehicle to the middle of the picture
    FINE = 2  # pixels in each direction that are averaged to one
    GRASS, ASPHALT, GOAL = (203, 215, 190), (104, 108, 114), (120, 190, 120)
    WHITE, YELLOW = (240, 240, 240), (240, 190, 60)
    EGO, TRAFFIC, GLASS, OUTLINE = (240, 110, 30), (65, 120, 200), (225, 240, 250), (30, 30, 30)

    def __init__(self, simulator: Any) -> None:
        self._engine, self._ego = simulator.engine, simulator.vehicle
        network = simulator.current_map.road_network
        roads = [lanes for ends in network.graph.values() for lanes in ends.values()]
        self._surfaces = [(_strip(lane), self.ASPHALT) for lanes in roads for lane in lanes]
        for lane in self._ego.navigation.final_road.get_lanes(network):
            self._surfaces.append((_strip(lane, lane.length - 5.0), self.GOAL))  # where one arrives
        # neighbours share a line, which is the left one of a lane
        self._lines = [line for lanes in roads for lane in lanes for line in self._markings(lane, 0)]
        self._lines += [line for lanes in roads for line in self._markings(lanes[-1], 1)]

    def draw(self) -> np.ndarray:
        """The picture of now."""
        size, scale = np.array(self.SIZE) * self.FINE, self.SCALE * self.FINE
        middle = np.array(self._ego.position) + self.AHEAD * _direction(self._ego)
        image = Image.new("RGB", (int(size[0]), int(size[1])), self.GRASS)
        pen = ImageDraw.Draw(image)

        def pixels(points: np.ndarray) -> list[tuple[float, float]]:
            return [(x, y) for x, y in ((points - middle) * scale + size / 2).tolist()]

        for points, colour in self._surfaces:
            pen.polygon(pixels(points), colour)
        for points, colour in self._lines:
            pen.line(pixels(points), colour, width=self.FINE)
        for vehicle in sorted(vehicles_of(self._engine), key=lambda vehicle: vehicle is self._ego):
            pen.polygon(
                pixels(_part(vehicle, -0.5, 0.5, 1.0)), self.EGO if vehicle is self._ego else self.TRAFFIC,
                self.OUTLINE, width=self.FINE,
            )  # fmt: skip
            pen.polygon(pixels(_part(vehicle, 0.08, 0.26, 0.8)), self.GLASS)  # shows where its front is
        return np.array(image.reduce(self.FINE))

    def _markings(self, lane: Any, side: int) -> Iterator[tuple[np.ndarray, tuple[int, int, int]]]:
        """The line at the left (0) or right (1) side of a lane, if there is one."""
        kind = lane.line_types[side]
        colour = self.YELLOW if lane.line_colors[side] == LineColor.YELLOW else self.WHITE
        if kind == LineType.BROKEN:
            for start in np.arange(0.0, lane.length, 6.0):
                yield _edge(lane, side, start, min(start + 2.5, lane.length)), colour
        elif kind != LineType.NONE:
            yield _edge(lane, side, 0.0, lane.length), colour


def _strip(lane: Any, start: float = 0.0) -> np.ndarray:
    """The outline of a lane from `start` to its end."""
    return np.concatenate([_edge(lane, 0, start, lane.length), _edge(lane, 1, start, lane.length)[::-1]])


def _edge(lane: Any, side: int, start: float, end: float) -> np.ndarray:
    """Points along the left (0) or right (1) side of a lane, at most about two metres apart."""
    places = np.linspace(start, end, 2 + int((end - start) / 2))
    return np.array([lane.position(place, (side - 0.5) * lane.width) for place in places])


def _part(vehicle: Any, back: float, front: float, width: float) -> np.ndarray:
    """The outline of a part of a vehicle, in shares of its length and of its width."""
    ahead = _direction(vehicle) * vehicle.LENGTH
    aside = _direction(vehicle)[::-1] * (-1.0, 1.0) * vehicle.WIDTH * width / 2
    middle = np.array(vehicle.position)
    corners = [(back, -1), (back, 1), (front, 1), (front, -1)]
    return np.array([middle + along * ahead + across * aside for along, across in corners])


def _direction(vehicle: Any) -> np.ndarray:
    """The unit vector along a vehicle."""
    return np.array([np.cos(vehicle.heading_theta), np.sin(vehicle.heading_theta)])


def vehicles_of(engine: Any) -> list[Any]:
    """All that are in the scene."""
    return list(engine.get_objects(lambda thing: isinstance(thing, BaseVehicle)).values())
