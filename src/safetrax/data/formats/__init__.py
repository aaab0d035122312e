"""The formats that logged trajectories come in and go out in, one file each."""
