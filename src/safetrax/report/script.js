"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const COLOURS = 8, DASHES = 4;
  const SVG = "http://www.w3.org/2000/svg";
  const onPrint = [];  // opens something before printing; may give a function that closes it again

  // ---- elements: every text goes in as text, never as markup

  function set(node, attributes) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
    }
    return node;
  }
  function el(name, attributes, ...children) {
    const node = set(document.createElement(name), attributes);
    node.append(...children.filter(child => child !== null && child !== undefined));
    return node;
  }
  function svg(name, attributes, ...children) {
    const node = set(document.createElementNS(SVG, name), attributes);
    node.append(...children);
    return node;
  }
  const section = id => document.getElementById(id);
  const remove = id => section(id).remove();
  const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

  // ---- numbers

  const isNumber = value => typeof value === "number";
  const fixed = (value, digits) => isNumber(value) ? value.toFixed(digits).replace(/^-(0(\.0*)?)$/, "$1") : "–";
  const grouped = value => isNumber(value) ? value.toLocaleString("en", { maximumFractionDigits: 1 }) : "–";
  function brief(value) {
    const size = Math.abs(value);
    for (const [unit, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (size >= unit) return `${+(value / unit).toPrecision(3)}${letter}`;
    }
    return `${+value.toPrecision(3)}`;
  }
  function duration(seconds) {
    if (!isNumber(seconds)) return "–";
    if (seconds < 90) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
    const minutes = Math.round(seconds / 60);
    return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
  }
  function interval([value, low, high], digits) {
    return isNumber(low) ? `${fixed(value, digits)} [${fixed(low, digits)}, ${fixed(high, digits)}]` : fixed(value, digits);
  }

  // ---- colours: an algorithm has a colour and a dash pattern, so that neither has to tell alone

  const colour = index => `c${index % COLOURS}`;
  const dash = index => `d${(index + Math.floor(index / COLOURS)) % DASHES}`;
  const swatch = (kind, dashes) => svg("svg", { class: "swatch", viewBox: "0 0 24 12", "aria-hidden": "true" },
    svg("path", { class: `line ${kind} ${dashes}`, d: "M0 6H24" }));
  const algorithmSwatch = index => swatch(colour(index), dash(index));

  // ---- a tooltip: for what has data-tip when it has the focus, for other things when they ask

  const tip = document.getElementById("tip");
  function showTip(target, text) {
    tip.textContent = text;
    tip.hidden = false;
    const box = target.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const wide = document.documentElement.clientWidth;
    const left = Math.min(Math.max(box.left + box.width / 2 - own.width / 2, 4), wide - own.width - 4);
    const above = box.top - own.height - 8;
    tip.style.left = `${left + window.scrollX}px`;
    tip.style.top = `${(above < 4 ? box.bottom + 8 : above) + window.scrollY}px`;
  }
  const hideTip = () => { tip.hidden = true; };
  document.addEventListener("focusin", event => {
    if (event.target.dataset.tip !== undefined) showTip(event.target, event.target.dataset.tip);
  });
  document.addEventListener("focusout", event => { if (event.target.dataset.tip !== undefined) hideTip(); });
  document.addEventListener("keydown", event => { if (event.key === "Escape") hideTip(); });

  // ---- one stop of the tabulator per panel, arrow keys inside it

  function roving(group) {
    const marks = [...group.querySelectorAll(".mark")];
    marks.forEach((mark, index) => mark.setAttribute("tabindex", index ? "-1" : "0"));
    group.addEventListener("keydown", event => {
      const here = marks.indexOf(document.activeElement);
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      let there = step === undefined ? { Home: 0, End: marks.length - 1 }[event.key] : here + step;
      if (here < 0 || there === undefined) return;
      there = Math.min(Math.max(there, 0), marks.length - 1);
      marks[here].setAttribute("tabindex", "-1");
      marks[there].setAttribute("tabindex", "0");
      marks[there].focus();
      event.preventDefault();
    });
  }

  // ---- drawing later: a page of a whole suite has hundreds of figures

  const observer = "IntersectionObserver" in window ? new IntersectionObserver(entries => {
    for (const entry of entries) if (entry.isIntersecting) draw(entry.target);
  }, { rootMargin: "400px" }) : null;
  const drawings = new Map();
  function draw(node) {
    const make = drawings.get(node);
    if (make) { drawings.delete(node); make(node); }
    if (observer) observer.unobserve(node);
  }
  function whenSeen(node, make) {
    drawings.set(node, make);
    if (observer) observer.observe(node);
  }
  function drawAll() { for (const node of [...drawings.keys()]) draw(node); }

  // ---- axes

  function ticks(low, high, count) {
    const rough = (high - low) / Math.max(count, 1), power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map(factor => factor * power).find(size => size >= rough * .999) || rough;
    const found = [];
    for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step) found.push(Math.abs(value) < step * 1e-6 ? 0 : +value.toPrecision(10));
    return found;
  }
  function padded(low, high, share) {
    if (!(high > low)) { const size = Math.abs(low) * .1 || .5; return [low - size, low + size]; }
    return [low - (high - low) * share, high + (high - low) * share];
  }
  function frame({ width = 270, height = 205, x, y, xLabel, yLabel, label }) {
    const left = 44, right = 14, top = 8, bottom = 36;
    const sx = value => left + (value - x[0]) / (x[1] - x[0]) * (width - left - right);
    const sy = value => height - bottom - (value - y[0]) / (y[1] - y[0]) * (height - top - bottom);
    const root = svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, "aria-label": label });
    const shades = svg("g"), rules = svg("g", { "aria-hidden": "true" }), plot = svg("g");
    for (const value of ticks(x[0], x[1], 5)) {
      rules.append(svg("path", { class: "rule", d: `M${sx(value).toFixed(1)} ${top}V${height - bottom}` }),
        svg("text", { x: sx(value).toFixed(1), y: height - bottom + 14, "text-anchor": "middle" }, brief(value)));
    }
    for (const value of ticks(y[0], y[1], 5)) {
      rules.append(svg("path", { class: "rule", d: `M${left} ${sy(value).toFixed(1)}H${width - right}` }),
        svg("text", { x: left - 5, y: (sy(value) + 3.5).toFixed(1), "text-anchor": "end" }, brief(value)));
    }
    rules.append(svg("path", { class: "axis", d: `M${left} ${top}V${height - bottom}H${width - right}` }),
      svg("text", { x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle" }, xLabel));
    if (yLabel) rules.append(svg("text", { transform: `translate(10 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel));
    root.append(shades, rules, plot);
    return { root, shades, plot, sx, sy, x, y, left, right: width - right, top, bottom: height - bottom };
  }
  function shadeLeft(f, limit) {
    f.shades.append(svg("rect", { class: "shade", x: f.left, y: f.top, width: Math.max(f.sx(Math.min(limit, f.x[1])) - f.left, 0), height: f.bottom - f.top }));
  }
  function verticalLimit(f, limit) {
    if (limit >= f.x[0] && limit <= f.x[1]) f.plot.append(svg("path", { class: "threshold", d: `M${f.sx(limit).toFixed(1)} ${f.top}V${f.bottom}` }));
  }
  let clips = 0;
  function clipTo(f) {
    const id = `clip${clips++}`;
    f.root.prepend(svg("clipPath", { id }, svg("rect", { x: f.left, y: f.top - 1, width: f.right - f.left + 4, height: f.bottom - f.top + 5 })));
    f.plot.setAttribute("clip-path", `url(#${id})`);
  }
  function path(f, xs, ys) {
    let text = "", pen = false;
    xs.forEach((x, i) => {
      if (!isNumber(ys[i])) { pen = false; return; }
      text += `${pen ? "L" : "M"}${f.sx(x).toFixed(1)} ${f.sy(ys[i]).toFixed(1)}`;
      pen = true;
    });
    return text;
  }
  function band(f, line, xs) {
    const known = xs.map((_, i) => i).filter(i => isNumber(line.low[i]) && isNumber(line.high[i]));
    if (known.length < 2) return "";
    const corner = (i, values) => `${f.sx(xs[i]).toFixed(1)} ${f.sy(values[i]).toFixed(1)}`;
    return `M${known.map(i => corner(i, line.high)).join("L")}L${known.reverse().map(i => corner(i, line.low)).join("L")}Z`;
  }

  // Lines with bands, and a reading at the pointer or, with the arrow keys, at the place of a slider.
  function lineChart(options, lines) {
    const f = frame(options);
    if (options.threshold !== undefined && options.threshold <= f.y[1]) {
      const at = f.sy(options.threshold);
      f.shades.append(svg("rect", { class: "shade", x: f.left, y: at, width: f.right - f.left, height: Math.max(f.bottom - at, 0) }));
      f.plot.append(svg("path", { class: "threshold", d: `M${f.left} ${at.toFixed(1)}H${f.right}` }));
    }
    clipTo(f);
    for (const line of lines) {
      const marks = { class: `band ${line.colour}`, "data-a": line.index };
      if (line.low) f.plot.append(svg("path", { ...marks, d: band(f, line, line.x) }));
    }
    for (const line of lines) {
      f.plot.append(svg("path", { class: `line ${line.colour} ${line.dash}`, "data-a": line.index, d: path(f, line.x, line.y) }));
      if (line.x.length <= 12) {
        for (let i = 0; i < line.x.length; i++) {
          if (isNumber(line.y[i])) f.plot.append(svg("circle", { class: `point ${line.colour}`, "data-a": line.index, cx: f.sx(line.x[i]).toFixed(1), cy: f.sy(line.y[i]).toFixed(1), r: 2.6 }));
        }
      }
    }
    const all = [...new Set(lines.flatMap(line => line.x))].sort((a, b) => a - b);
    const cross = svg("path", { class: "cross" });
    f.root.append(cross);
    set(f.root, { tabindex: "0", role: "slider", "aria-valuemin": all[0], "aria-valuemax": all[all.length - 1] });
    let at = 0;
    function value(line) {
      let near = 0;
      line.x.forEach((x, i) => { if (Math.abs(x - all[at]) < Math.abs(line.x[near] - all[at])) near = i; });
      return `${line.name} ${isNumber(line.y[near]) ? +line.y[near].toPrecision(3) : "–"}`;
    }
    function read(index, show) {
      at = Math.min(Math.max(index, 0), all.length - 1);
      const shown = lines.slice(0, 14).map(value), more = lines.length - shown.length;
      const text = [`${options.xName} ${grouped(all[at])}`, ...shown, ...(more > 0 ? [`and ${more} more`] : [])].join("\n");
      set(f.root, { "aria-valuenow": all[at], "aria-valuetext": text.replaceAll("\n", ", ") });
      if (show) { cross.setAttribute("d", `M${f.sx(all[at]).toFixed(1)} ${f.top}V${f.bottom}`); showTip(cross, text); }
    }
    const leave = () => { cross.removeAttribute("d"); hideTip(); };
    read(0, false);
    f.root.addEventListener("pointermove", event => {
      const box = f.root.getBoundingClientRect(), scale = (options.width || 270) / box.width;
      const wanted = f.x[0] + ((event.clientX - box.left) * scale - f.left) / (f.right - f.left) * (f.x[1] - f.x[0]);
      let near = 0;
      all.forEach((x, i) => { if (Math.abs(x - wanted) < Math.abs(all[near] - wanted)) near = i; });
      read(near, true);
    });
    f.root.addEventListener("pointerleave", leave);
    f.root.addEventListener("focus", () => { if (f.root.matches(":focus-visible")) read(at, true); });
    f.root.addEventListener("blur", leave);
    f.root.addEventListener("keydown", event => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
      const there = step === undefined ? { Home: 0, End: all.length - 1 }[event.key] : at + step;
      if (there === undefined) return;
      read(there, true);
      event.preventDefault();
    });
    return f.root;
  }

  // A legend whose buttons bring out one algorithm in the section.
  function algorithmLegend(list, root, indices) {
    let picked = null;
    function dimmed() {
      for (const node of root.querySelectorAll("[data-a]")) node.classList.toggle("dim", picked !== null && node.dataset.a !== String(picked));
    }
    for (const index of indices) {
      const button = el("button", { type: "button", "aria-pressed": "false" }, algorithmSwatch(index), data.algorithms[index]);
      button.addEventListener("click", () => {
        picked = picked === index ? null : index;
        for (const other of list.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button && picked !== null));
        dimmed();
      });
      list.append(el("li", {}, button));
    }
    return dimmed;
  }

  // ---- tables that can be sorted, filtered and opened row by row

  // Thousands of rows cost seconds of layout: the first ones are there at once, the others follow while nothing else is to be done,
  // in slices that grow, as every slice has the whole table laid out again.
  const SLICE = 500, GROWTH = 2.5;
  const whenIdle = window.requestIdleCallback || (work => setTimeout(work, 20));

  function sortableTable(table, { columns, rows, details, row: makeRow, groupBy, rowName }) {
    const entries = rows.map((row, index) => ({ row, index, main: null, toggle: null, more: null, open: false, shown: true }));
    let order = entries, sorted = null, direction = 1, waiting = [], lastGroup = null, placed = 0;
    const heads = columns.map(column => {
      const button = el("button", { type: "button" }, column.name);
      const head = el("th", { scope: "col", class: column.number ? "number" : null, "aria-sort": "none", title: column.title, "data-name": column.name }, button);
      button.addEventListener("click", () => sortBy(column, head));
      return head;
    });
    const body = el("tbody");
    table.append(el("thead", {}, el("tr", {}, ...heads)), body);

    function make(entry) {
      entry.main = makeRow(entry.row);
      const toggle = entry.main.querySelector(".toggle:not(.none)");
      if (!toggle) return;
      entry.toggle = set(toggle, { "aria-expanded": "false", "aria-label": rowName(entry.row) });
      toggle.addEventListener("click", () => open(entry, !entry.open));
    }
    function nodes(entry) {
      if (!entry.main) make(entry);
      if (!entry.toggle) return [entry.main];
      entry.toggle.setAttribute("aria-expanded", String(entry.open));
      if (entry.open && !entry.more) entry.more = details(entry.row);
      return entry.open ? [entry.main, ...entry.more] : [entry.main];
    }
    function open(entry, wanted) {
      entry.open = wanted;
      const [main, ...more] = nodes(entry);
      if (!main.isConnected) return;
      if (wanted) main.after(...more); else for (const row of entry.more || []) row.remove();
    }
    function append(count) {
      const part = document.createDocumentFragment();
      for (const entry of waiting.splice(0, Math.round(count))) {
        const group = groupBy ? groupBy(entry.row) : null, own = nodes(entry);
        own[0].classList.toggle("first", group !== lastGroup);
        lastGroup = group;
        part.append(...own);
      }
      body.append(part);
    }
    function place() {
      waiting = order.filter(entry => entry.shown);
      lastGroup = null;
      body.replaceChildren();
      append(SLICE);
      const own = ++placed;
      let size = SLICE;
      const next = () => { if (own === placed && waiting.length) { append(size *= GROWTH); whenIdle(next); } };
      if (waiting.length) whenIdle(next);
    }
    function sortBy(column, head) {
      direction = sorted === column ? -direction : column.falling ? -1 : 1;
      sorted = column;
      for (const other of heads) other.setAttribute("aria-sort", other === head ? (direction > 0 ? "ascending" : "descending") : "none");
      const absent = value => value === null || value === undefined;
      const keys = new Map(entries.map(entry => [entry, column.value(entry.row)]));
      order = [...entries].sort((a, b) => {
        const [one, two] = [keys.get(a), keys.get(b)];
        if (absent(one) || absent(two)) return absent(one) - absent(two) || a.index - b.index;  // last either way
        const way = typeof one === "string" ? compare(one, two) : one - two;
        return way * direction || a.index - b.index;
      });
      place();
    }
    place();
    return {
      filter(matches) {
        for (const entry of entries) entry.shown = matches(entry.row);
        place();
        return entries.filter(entry => entry.shown).length;
      },
      openAll(wanted) {
        for (const entry of entries) entry.open = wanted;
        place();
      },
      print() {
        const before = entries.map(entry => entry.open);
        this.openAll(true);
        append(waiting.length);
        return () => { entries.forEach((entry, i) => { entry.open = before[i]; }); place(); };
      },
    };
  }
  const compare = new Intl.Collator("en", { numeric: true }).compare;

  // ---- header

  function header() {
    const versions = [...new Set(data.versions.map(made => made.safetrax).filter(Boolean))];
    if (versions.length) document.getElementById("versions").textContent = `; trained with SafeTraX ${versions.join(", ")}`;
    const list = document.getElementById("verdicts");
    data.verdicts.forEach((verdict, index) => {
      const share = svg("svg", { class: "share", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" },
        svg("rect", { width: 100 * verdict.safe / verdict.tasks, height: 4 }));
      list.append(el("li", {}, el("strong", {}, algorithmSwatch(index), data.algorithms[index]), el("p", {}, verdict.sentence), share));
    });
    const contents = document.getElementById("contents");
    for (const part of document.querySelectorAll("main > section")) {
      contents.append(el("li", {}, el("a", { href: `#${part.id}` }, part.querySelector("h2").textContent)));
    }
  }

  function cautions() {
    const list = document.querySelector("#cautions ul");
    if (!data.cautions.length) {
      list.classList.add("none");
      list.append(el("li", {}, "Nothing was found that weakens these numbers."));
    }
    for (const { sentence, items } of data.cautions) {
      const points = () => el("ul", {}, ...items.map(item => el("li", {}, item)));
      const entry = el("li", {}, sentence);
      if (items.length && items.length <= 3) entry.append(points());
      else if (items.length) {
        const more = el("details", {}, el("summary", {}, plural(items.length, "place")));
        more.addEventListener("toggle", () => { if (more.open && more.children.length === 1) more.append(points()); });
        onPrint.push(() => { if (more.children.length === 1) more.append(points()); });
        entry.append(more);
      }
      list.append(entry);
    }
  }

  // ---- results

  const verdictOf = row => row.best ? "★ best safe" : row.verdict;
  const limitsOf = row => row.limits.map(brief).join(", ");

  function results() {
    const task = row => data.tasks[row.t], algorithm = row => data.algorithms[row.a];
    const columns = [
      { name: "Task", value: row => task(row).name },
      { name: "Algorithm", value: algorithm },
      { name: "Reward", number: true, falling: true, value: row => row.reward },
      { name: "Cost", number: true, value: row => row.cost },
      { name: "Verdict", value: row => `${row.best ? 0 : row.safe ? 1 : 2}${row.certain ? 0 : 1}` },
      { name: "Limits", value: limitsOf },
      { name: "Seeds", number: true, falling: true, value: row => row.seeds },
      { name: "Episodes", number: true, falling: true, value: row => row.episodes },
      { name: "Return", number: true, falling: true, value: row => row.return, title: "not normalised" },
      { name: "Raw cost", number: true, value: row => row.rawCost, title: "per episode, not normalised" },
    ];
    const numbers = row => [
      el("td", { class: "number" }, String(row.seeds)), el("td", { class: "number" }, grouped(row.episodes)),
      el("td", { class: "number" }, grouped(row.return)), el("td", { class: "number" }, grouped(row.rawCost)),
    ];
    const kind = row => `${row.safe ? "safe" : ""} ${row.best ? "best" : ""}`;
    function main(row) {
      const verdict = el("td", { class: "verdict" }, verdictOf(row));
      if (!row.certain) verdict.append(el("span", { class: "badge", title: "within one standard error of the limit, or the error is unknown" }, "not certain"));
      const name = el("td", { class: "name" }, algorithm(row));
      if (row.label) name.append(el("span", { class: "badge" }, row.label));
      return el("tr", { class: kind(row) },
        el("th", { scope: "row", title: task(row).suite }, el("button", { type: "button", class: row.byLimit.length ? "toggle" : "toggle none" }), task(row).name),
        name,
        el("td", { class: "number value" }, row.rewardText), el("td", { class: "number value" }, row.costText), verdict,
        el("td", {}, limitsOf(row)), ...numbers(row));
    }
    function details(row) {
      return row.byLimit.map(one => el("tr", { class: `limit ${one.safe ? "safe" : ""}` },
        el("th", { scope: "row" }, `limit ${brief(one.limits[0])}`), el("td"),
        el("td", { class: "number value" }, one.rewardText), el("td", { class: "number value" }, one.costText),
        el("td", {}, one.safe ? "safe" : "unsafe"), el("td", {}, brief(one.limits[0])), ...numbers(one)));
    }
    const table = sortableTable(document.getElementById("table"), {
      columns, rows: data.results, row: main, details, groupBy: row => row.t,
      rowName: row => `${algorithm(row)} on ${task(row).name} by cost limit`,
    });
    const count = document.getElementById("count"), input = document.getElementById("filter");
    const haystacks = new Map(data.results.map(row => [row,
      `${task(row).name} ${task(row).suite} ${algorithm(row)} ${row.label} `.toLowerCase()]));
    const verdictWords = row => [row.safe ? "safe" : row.verdict.startsWith("unsafe") ? "unsafe" : "unshown", ...(row.best ? ["best"] : [])];
    function filter() {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const found = table.filter(row => words.every(word => haystacks.get(row).includes(word) || verdictWords(row).includes(word)));
      count.textContent = words.length ? `${found.toLocaleString("en")} of ${plural(data.results.length, "row")}` : plural(data.results.length, "row");
    }
    input.addEventListener("input", filter);
    count.textContent = plural(data.results.length, "row");
    const button = document.getElementById("expand");
    button.hidden = !data.results.some(row => row.byLimit.length);
    button.addEventListener("click", () => {
      const wanted = button.getAttribute("aria-expanded") !== "true";
      button.setAttribute("aria-expanded", String(wanted));
      button.textContent = wanted ? "Hide the limits" : "Show every limit";
      table.openAll(wanted);
    });
    onPrint.push(() => table.print());
  }

  // ---- across tasks

  function strip([value, low, high], [from, to], threshold) {
    const at = number => 4 + 92 * (Math.min(Math.max(number, from), to) - from) / (to - from || 1);
    const root = svg("svg", { class: "strip", viewBox: "0 0 100 12", "aria-hidden": "true" }, svg("path", { class: "rail", d: "M2 6H98" }));
    if (threshold !== undefined) root.append(svg("path", { class: "threshold", d: `M${at(threshold)} 0V12` }));
    if (isNumber(low)) root.append(svg("path", { class: "range", d: `M${at(low)} 6H${at(high)}` }));
    if (isNumber(value)) root.append(svg("circle", { cx: at(value), cy: 6, r: 3 }));
    return root;
  }
  function across() {
    const place = document.querySelector("#across .groups");
    const heads = [["Algorithm"], ["Safe tasks"], ["Mean reward", "number"], ["Mean cost", "number"], ["IQM of reward"], ["IQM of cost"], ["P(safe)"], ["Safe episodes"], ["Runs", "number"]];
    for (const group of data.groups) {
      const ends = rows => rows.flat().filter(isNumber);
      const rewards = ends(group.rows.map(row => row.iqmReward)), costs = ends(group.rows.map(row => row.iqmCost));
      const rewardRange = [Math.min(0, ...rewards), Math.max(1, ...rewards)], costRange = [0, Math.min(Math.max(1.5, ...costs), 6)];
      const names = group.tasks.length > 6 ? plural(group.tasks.length, "task") : group.tasks.join(", ");
      const title = el("h3", {}, group.name, group.tasks.length > 1 ? el("span", {}, ` (${names})`) : null);
      const table = el("table", {}, el("thead", {}, el("tr", {}, ...heads.map(([name, kind]) => el("th", { scope: "col", class: kind }, name)))));
      const body = el("tbody");
      for (const row of group.rows) {
        body.append(el("tr", { class: `${row.safe ? "safe" : ""} ${row.best ? "best" : ""}` },
          el("th", { scope: "row", class: "name" }, `${row.best ? "★ " : ""}${data.algorithms[row.a]}`),
          el("td", {}, `${row.safeTasks} of ${row.tasks}`, row.missing ? el("span", { class: "badge" }, `not on ${row.missing}`) : null),
          el("td", { class: "number value" }, row.rewardText), el("td", { class: "number value" }, row.costText),
          el("td", { class: "interval" }, interval(row.iqmReward, 2), strip(row.iqmReward, rewardRange)),
          el("td", { class: "interval" }, interval(row.iqmCost, 2), strip(row.iqmCost, costRange, 1)),
          el("td", { class: "interval" }, interval(row.safeRuns, 2), strip(row.safeRuns, [0, 1])),
          el("td", { class: "interval" }, interval(row.safeEpisodes, 2)), el("td", { class: "number" }, grouped(row.runs))));
      }
      table.append(body);
      place.append(title, el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Aggregates: ${group.name}` }, table));
    }
  }

  // ---- the plane of reward and cost

  function planes() {
    const place = document.querySelector("#planes .grid");
    const costs = data.results.map(row => row.cost).filter(isNumber), rewards = data.results.map(row => row.reward).filter(isNumber);
    const x = [0, Math.max(1.5, Math.min(Math.max(...costs) * 1.06, 3.5))];
    const y = [Math.max(Math.min(0, ...rewards) - .04, -.3), Math.min(Math.max(1, ...rewards) + .05, 1.7)];
    data.algorithms.forEach((name, index) => {
      const rows = data.results.filter(row => row.a === index);
      const label = `${name}: normalised cost and reward on ${plural(rows.length, "task")}`;
      const safe = rows.filter(row => row.safe).length;
      const holder = el("div");
      place.append(el("figure", {}, el("figcaption", {}, el("b", {}, name), ` safe on ${safe} of ${rows.length}`), holder));
      whenSeen(holder, () => holder.append(plane(rows, x, y, label)));
    });
  }
  function plane(rows, x, y, label) {
    const f = frame({ x, y, xLabel: "normalised cost", yLabel: "normalised reward", label });
    f.root.setAttribute("role", "group");
    shadeLeft(f, 1);
    verticalLimit(f, 1);
    const places = [];
    for (const row of rows) {
      if (!isNumber(row.cost) || !isNumber(row.reward)) continue;
      const beyond = row.cost > x[1], outside = row.reward < y[0] || row.reward > y[1];
      const px = f.sx(Math.min(row.cost, x[1])), py = f.sy(Math.min(Math.max(row.reward, y[0]), y[1]));
      const text = `${data.tasks[row.t].name}\nreward ${row.rewardText}\ncost ${row.costText}\n${row.verdict}${row.certain ? "" : ", not certain"}`;
      const mark = svg("g", { class: "mark", role: "img", "aria-label": text.replaceAll("\n", ", "), "data-tip": text });
      places.push({ mark, px, py });
      if (!beyond && !outside) {
        const across = isNumber(row.costError) ? [Math.max(row.cost - row.costError, x[0]), Math.min(row.cost + row.costError, x[1])].map(f.sx) : null;
        const up = isNumber(row.rewardError) ? [Math.max(row.reward - row.rewardError, y[0]), Math.min(row.reward + row.rewardError, y[1])].map(f.sy) : null;
        if (across) mark.append(svg("path", { class: "whisker", d: `M${across[0].toFixed(1)} ${py.toFixed(1)}H${across[1].toFixed(1)}` }));
        if (up) mark.append(svg("path", { class: "whisker", d: `M${px.toFixed(1)} ${up[0].toFixed(1)}V${up[1].toFixed(1)}` }));
      }
      const kind = `dot ${row.safe ? "safe" : "unsafe"}`, turn = beyond ? 0 : row.reward > y[1] ? -90 : 90;
      const at = `translate(${px.toFixed(1)} ${py.toFixed(1)})`;
      mark.append(svg("circle", { class: "halo", cx: px.toFixed(1), cy: py.toFixed(1), r: 7.5 }));
      if (beyond || outside) mark.append(svg("path", { class: kind, transform: `${at} rotate(${turn})`, d: "M-4 -4.6L4.4 0L-4 4.6Z" }));
      else if (row.safe) mark.append(svg("circle", { class: kind, cx: px.toFixed(1), cy: py.toFixed(1), r: 4 }));
      else mark.append(svg("path", { class: kind, transform: at, d: "M0 -4.8L4.8 0L0 4.8L-4.8 0Z" }));
      f.plot.append(mark);
    }
    roving(f.plot);
    nearest(f.root, places);
    return f.root;
  }

  // Marks overlap, so that the nearest one to the pointer is meant, not the uppermost.
  function nearest(root, places) {
    let near = null;
    function leave() {
      if (near) { near.mark.classList.remove("near"); hideTip(); }
      near = null;
    }
    const point = event => {
      const box = root.getBoundingClientRect(), scale = root.viewBox.baseVal.width / box.width;
      const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
      const away = place => Math.hypot(place.px - x, place.py - y);
      const found = places.reduce((best, place) => away(place) < (best ? away(best) : 14) ? place : best, null);
      if (found === near) return;
      leave();
      near = found;
      if (near) { near.mark.classList.add("near"); showTip(near.mark, near.mark.dataset.tip); }
    };
    root.addEventListener("pointermove", point);
    root.addEventListener("pointerdown", point);
    root.addEventListener("pointerleave", leave);
  }

  // ---- profiles

  function profiles() {
    const { tasks, common, kinds } = data.profiles, root = section("profiles");
    root.querySelector(".about").textContent = !common ? "The algorithms have no task in common, so that each curve is over other tasks."
      : tasks < data.tasks.length ? `Over the ${plural(tasks, "task")} that all algorithms have.` : `Over ${plural(tasks, "task")}.`;
    const names = { return: "share of runs with return > τ", "safe return": "share of runs that are safe with return > τ" };
    const place = root.querySelector(".grid");
    const picked = algorithmLegend(root.querySelector(".legend"), root, kinds[0].lines.map(line => line.a));
    const many = kinds[0].lines.length > 6;  // then bands would only cover one another
    for (const kind of kinds) {
      const holder = el("div");
      place.append(el("figure", {}, el("figcaption", {}, el("b", {}, kind.name === "return" ? "Normalised return" : "Normalised return, safe runs only")), holder));
      const lines = kind.lines.map(line => ({
        index: line.a, name: data.algorithms[line.a], x: kind.x, y: line.y, colour: colour(line.a), dash: dash(line.a),
        ...(!many && line.low.some(isNumber) ? { low: line.low, high: line.high } : {}),
      }));
      whenSeen(holder, () => {
        holder.append(lineChart({ width: 480, height: 290, x: [0, 1.2], y: [0, 1.02], xLabel: "τ", xName: "τ =", yLabel: "share of runs", label: names[kind.name] }, lines));
        picked();
      });
    }
    const steps = kinds[0].x.map((x, i) => i).filter(i => i % 10 === 0);
    const numbers = root.querySelector(".numbers .scroll");
    const head = el("tr", {}, el("th", { scope: "col" }, "Algorithm"), el("th", { scope: "col" }, "Profile"), ...steps.map(i => el("th", { scope: "col", class: "number" }, `τ = ${fixed(kinds[0].x[i], 1)}`)));
    numbers.append(el("table", {}, el("thead", {}, head), el("tbody", {}, ...kinds.flatMap(kind => kind.lines.map(line => el("tr", {},
      el("th", { scope: "row" }, data.algorithms[line.a]), el("td", {}, kind.name), ...steps.map(i => el("td", { class: "number" }, fixed(line.y[i], 2)))))))));
  }

  // ---- learning curves

  function curves() {
    if (!data.panels.length) { remove("curves"); return; }
    const root = section("curves"), place = root.querySelector(".tasks");
    const groups = new Map();
    for (const panel of data.panels) groups.set(panel.t, [...(groups.get(panel.t) || []), panel]);
    const number = new Map(data.algorithms.map((name, index) => [name, index]));
    const used = [...new Set(data.panels.filter(panel => panel.byAlgorithm).flatMap(panel => panel.lines.map(line => number.get(line.label))))];
    const picked = algorithmLegend(root.querySelector(".legend"), root, used.sort((a, b) => a - b));
    for (const [t, panels] of groups) {
      const grid = el("div", { class: "grid" });
      for (const panel of panels) {
        const holder = el("div"), lines = styled(panel, number);
        const figure = el("figure", {}, el("figcaption", {}, el("b", {}, panel.title)), holder);
        if (!panel.byAlgorithm && lines.length > 1) {
          figure.append(el("ul", { class: "legend small" }, ...lines.map(line => el("li", {}, swatch(line.colour, line.dash), line.name))));
        }
        grid.append(figure);
        whenSeen(holder, () => { holder.append(curve(panel, lines, data.tasks[t].name)); picked(); });
      }
      const box = el("details", { open: t === data.panels[0].t }, el("summary", {}, data.tasks[t].name, el("span", {}, ` ${plural(panels.length, "figure")}`)), grid);
      place.append(box);
    }
  }
  function styled(panel, number) {
    return panel.lines.map((line, place) => {
      const index = panel.byAlgorithm ? number.get(line.label) : place;
      const plain = line.label === "all limits";
      return { ...line, name: line.label, index: panel.byAlgorithm ? index : null, colour: plain ? "" : colour(index), dash: plain ? "d0" : dash(index) };
    });
  }
  function curve(panel, lines, task) {
    const ends = lines.flatMap(line => [line.y, line.low || [], line.high || []]).flat().filter(isNumber);
    const last = Math.max(...lines.map(line => line.x[line.x.length - 1]));
    let [low, high] = ends.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
    if (panel.kind === "cost") { low = Math.min(low, 0); high = Math.max(high, 1.2); }
    const y = panel.kind === "cost" && low >= 0 ? [0, high * 1.05] : padded(low, high, .06);
    return lineChart({
      x: [0, last || 1], y, xLabel: "updates", xName: "update", label: `${task}, ${panel.title} over updates`,
      ...(panel.kind === "cost" ? { threshold: 1 } : {}),
    }, lines);
  }

  // ---- data sets

  function logged() {
    if (!data.logged.length && !data.unread.length) { remove("logged"); return; }
    const root = section("logged"), place = root.querySelector(".grid");
    for (const set of data.logged) {
      const holder = el("div");
      const drawn = set.costs.length < set.episodes ? `${grouped(set.costs.length)} of ${grouped(set.episodes)} episodes` : plural(set.episodes, "episode");
      const within = set.limits.map((limit, i) => `${grouped(set.within[i])} within ${brief(limit)}`).join(", ");
      const filters = set.filters.length ? ` Filtered before training: ${set.filters.join(", ")}.` : "";
      place.append(el("figure", {}, el("figcaption", {}, el("b", {}, set.task), ` ${set.source}`), holder,
        el("figcaption", {}, `${drawn}${within ? `; ${within}` : ""}.${filters}`), ...set.used.map(text => el("figcaption", {}, `${text}.`))));
      whenSeen(holder, () => holder.append(cloud(set)));
    }
    for (const { reason } of data.unread) root.querySelector(".unread").append(el("li", {}, `Not drawn: ${reason}`));
  }
  function cloud(set) {
    const ends = values => values.filter(isNumber).reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
    const most = Math.max(ends(set.costs)[1], ...set.limits, 1);
    const y = padded(...ends(set.returns), .06);
    const f = frame({ x: [-.03 * most, 1.05 * most], y, xLabel: "episode cost", yLabel: "episode return", label: `${set.task}: cost and return of ${plural(set.episodes, "logged episode")}` });
    f.root.setAttribute("role", "img");
    if (set.limits.length) shadeLeft(f, set.limits[set.limits.length - 1]);
    const dots = set.costs.map((cost, i) => isNumber(cost) && isNumber(set.returns[i]) ? `M${f.sx(cost).toFixed(1)} ${f.sy(set.returns[i]).toFixed(1)}h0` : "").join("");
    f.plot.append(svg("path", { class: "cloud", "stroke-width": set.costs.length > 800 ? 2.6 : 3.6, d: dots }));
    for (const limit of set.limits) verticalLimit(f, limit);
    return f.root;
  }

  // ---- episodes: still until asked to play

  function episodes() {
    if (!data.gifs.length && !data.gifsLeftOut.length) { remove("episodes"); return; }
    const root = section("episodes"), place = root.querySelector(".grid");
    for (const gif of data.gifs) {
      const still = el("canvas", { role: "img", "aria-label": `First picture of an episode of ${gif.name}` });
      const moving = el("img", { alt: `An episode of ${gif.name} on ${gif.task}`, hidden: true });
      const button = el("button", { type: "button", "aria-pressed": "false" }, "Play");
      button.addEventListener("click", () => {
        const playing = moving.hidden;
        if (playing) moving.src = gif.picture; else moving.removeAttribute("src");
        moving.hidden = !playing;
        still.hidden = playing;
        button.setAttribute("aria-pressed", String(playing));
        button.textContent = playing ? "Stop" : "Play";
      });
      const first = new Image();
      first.addEventListener("load", () => {
        still.width = first.naturalWidth;
        still.height = first.naturalHeight;
        still.getContext("2d").drawImage(first, 0, 0);
      });
      first.src = gif.picture;
      place.append(el("figure", {}, still, moving, el("figcaption", {}, el("b", {}, gif.name), ` ${gif.task} `, button)));
    }
    if (data.gifsLeftOut.length) root.querySelector(".note").textContent = `Left out, as the page would be too large: ${data.gifsLeftOut.join(", ")}.`;
  }

  // ---- runs and their configurations

  function told(value) {
    if (value === null || value === undefined) return "–";
    if (Array.isArray(value)) return value.map(told).join(", ") || "none";
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  }
  function listed(entries, long) {
    return el("dl", { class: long ? "long" : null }, ...entries.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, told(value)))));
  }
  function runs() {
    const root = section("runs");
    const columns = [
      { name: "Run", value: run => run.name },
      { name: "Algorithm", value: run => run.algorithms.join(", ") },
      { name: "Task", value: run => run.trainedFor || run.tasks.join(", ") },
      { name: "Limits", value: run => run.limits.map(brief).join(", ") },
      { name: "Seeds", value: run => run.seeds.join(", ") },
      { name: "Updates", number: true, value: run => run.updates },
      { name: "Training", number: true, falling: true, value: run => run.training },
      { name: "Evaluation", number: true, falling: true, value: run => run.evaluation },
      { name: "Data hash", value: run => run.sha256 || "" },
      { name: "Settings", number: true, value: run => run.settings },
      { name: "Versions", number: true, value: run => run.versions },
    ];
    const main = run => el("tr", {},
      el("th", { scope: "row" }, el("button", { type: "button", class: "toggle" }), run.name),
      ...columns.slice(1, 5).map(column => el("td", {}, told(column.value(run)))),
      el("td", { class: "number" }, grouped(run.updates)), el("td", { class: "number" }, duration(run.training)), el("td", { class: "number" }, duration(run.evaluation)),
      el("td", {}, el("code", {}, told(run.sha256).slice(0, 12))), el("td", { class: "number" }, `№ ${run.settings + 1}`), el("td", { class: "number" }, `№ ${run.versions + 1}`));
    const details = run => [el("tr", { class: "more" }, el("td", { colspan: columns.length }, listed([
      ["read from", run.place], ["data", run.source], ["data path", run.dataPath], ["sha256 of the data", run.sha256], ["filters", run.filters],
      ["used of the data", run.usage.join(". ")], ["precision", run.precision], ["evaluated on", run.tasks], ["attempts", run.attempts === null ? "not recorded" : run.attempts],
      ["warnings", run.warnings], ["command", run.command],
    ], true)))];
    const table = sortableTable(root.querySelector("table"), { columns, rows: data.runs, row: main, details, rowName: run => `More about ${run.name}` });
    onPrint.push(() => table.print());
    const place = root.querySelector(".settings");
    data.settings.forEach((settings, number) => {
      const own = data.runs.filter(run => run.settings === number), names = [...new Set(own.flatMap(run => run.algorithms))];
      const where = own.length === 1 ? own[0].name : plural(own.length, "run");
      place.append(el("details", {}, el("summary", {}, `Settings № ${number + 1}: ${names.join(", ")}`, el("span", {}, ` (${where})`)), listed(Object.entries(settings))));
    });
    data.versions.forEach((versions, number) => {
      const count = data.runs.filter(run => run.versions === number).length;
      place.append(el("details", {}, el("summary", {}, `Versions № ${number + 1}`, el("span", {}, ` (${plural(count, "run")})`)), listed(Object.entries(versions))));
    });
  }

  // ---- printing: everything open, everything drawn

  let undo = [];
  function expand() {
    for (const make of onPrint) undo.push(make());
    const boxes = [...document.querySelectorAll("details:not([open])")];
    for (const box of boxes) box.open = true;
    undo.push(() => { for (const box of boxes) box.open = false; });
    drawAll();
  }
  function restore() {
    for (const back of undo.reverse()) if (back) back();
    undo = [];
  }
  window.addEventListener("beforeprint", expand);
  window.addEventListener("afterprint", restore);
  window.matchMedia("print").addEventListener("change", event => event.matches ? expand() : restore());

  cautions();
  results();
  across();
  planes();
  profiles();
  curves();
  logged();
  episodes();
  runs();
  header();
  if (!observer) drawAll();
})();
