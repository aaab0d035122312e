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

  // ---- one stop of the tabulator per figure, arrow keys inside it

  function roving(group, marks) {
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

  // ---- figures: they are drawn; here their marks tell what they are, at the pointer and with the arrow keys

  function readable(chart) {
    const marks = [...chart.querySelectorAll(".points_marks > *, .readings_marks > *")];
    if (!marks.length) return;
    for (const mark of marks) {
      mark.classList.add("mark");
      mark.dataset.tip = mark.getAttribute("aria-label");
    }
    roving(chart, marks);
    const along = marks[0].parentNode.classList.contains("readings_marks");  // lines: only the place on the axis counts
    let near = null, places = null;
    const leave = () => {
      if (near) { near.classList.remove("near"); hideTip(); }
      near = null;
    };
    const point = event => {
      const box = chart.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
      places = places || marks.map(mark => {
        const own = mark.getBoundingClientRect();
        return [own.left + own.width / 2 - box.left, own.top + own.height / 2 - box.top];
      });
      const away = i => Math.hypot(places[i][0] - x, along ? 0 : places[i][1] - y);
      const found = marks.reduce((best, _, i) => best < 0 || away(i) < away(best) ? i : best, -1);
      const wanted = along || away(found) < 14 ? marks[found] : null;  // marks overlap: the nearest is meant
      if (wanted === near) return;
      leave();
      near = wanted;
      if (near) { near.classList.add("near"); showTip(near, near.dataset.tip); }
    };
    chart.addEventListener("pointerenter", () => { places = null; });
    chart.addEventListener("pointermove", point);
    chart.addEventListener("pointerdown", point);
    chart.addEventListener("pointerleave", leave);
  }

  // A legend whose buttons bring out one algorithm in the section.
  function chooses(list) {
    const buttons = [...list.querySelectorAll("button")];
    for (const button of buttons) button.addEventListener("click", () => {
      const picked = button.getAttribute("aria-pressed") !== "true";
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button && picked));
      for (const mark of list.closest("section").querySelectorAll(".compares .role-mark [aria-label]:not(.mark)")) {
        mark.classList.toggle("dim", picked && mark.getAttribute("aria-label") !== button.textContent);
      }
    });
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
        svg("rect", { width: 100 * verdict.safe / (verdict.tasks || 1), height: 4 }));
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

  function across() {
    const places = document.querySelectorAll("#across .group");
    const heads = [["Algorithm"], ["Safe tasks"], ["Mean reward", "number"], ["Mean cost", "number"], ["IQM of reward"], ["IQM of cost"], ["P(safe)"], ["Safe episodes"], ["Runs", "number"]];
    data.groups.forEach((group, number) => {
      const names = group.tasks.length > 6 ? plural(group.tasks.length, "task") : group.tasks.join(", ");
      const title = el("h3", {}, group.name, group.tasks.length > 1 ? el("span", {}, ` (${names})`) : null);
      const table = el("table", {}, el("thead", {}, el("tr", {}, ...heads.map(([name, kind]) => el("th", { scope: "col", class: kind }, name)))));
      const body = el("tbody");
      for (const row of group.rows) {
        body.append(el("tr", { class: `${row.safe ? "safe" : ""} ${row.best ? "best" : ""}` },
          el("th", { scope: "row", class: "name" }, `${row.best ? "★ " : ""}${data.algorithms[row.a]}`),
          el("td", {}, `${row.safeTasks} of ${row.tasks}`, row.missing ? el("span", { class: "badge" }, `not on ${row.missing}`) : null),
          el("td", { class: "number value" }, row.rewardText), el("td", { class: "number value" }, row.costText),
          el("td", { class: "interval" }, interval(row.iqmReward, 2)),
          el("td", { class: "interval" }, interval(row.iqmCost, 2)),
          el("td", { class: "interval" }, interval(row.safeRuns, 2)),
          el("td", { class: "interval" }, interval(row.safeEpisodes, 2)), el("td", { class: "number" }, grouped(row.runs))));
      }
      table.append(body);
      places[number].prepend(title, el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Aggregates: ${group.name}` }, table));
    });
  }

  // ---- profiles

  function profiles() {
    const { tasks, common, kinds } = data.profiles, root = section("profiles");
    if (!kinds.length) { remove("profiles"); return; }
    const raw = data.results.some(row => row.reward === null) ? " and that have reference returns" : "";
    root.querySelector(".about").textContent = !common ? "The algorithms have no task in common, so that each curve is over other tasks."
      : tasks < data.tasks.length ? `Over the ${plural(tasks, "task")} that all algorithms have${raw}.` : `Over ${plural(tasks, "task")}.`;
    const steps = kinds[0].x.map((x, i) => i);
    const numbers = root.querySelector(".numbers .scroll");
    const head = el("tr", {}, el("th", { scope: "col" }, "Algorithm"), el("th", { scope: "col" }, "Profile"), ...steps.map(i => el("th", { scope: "col", class: "number" }, `τ = ${fixed(kinds[0].x[i], 1)}`)));
    numbers.append(el("table", {}, el("thead", {}, head), el("tbody", {}, ...kinds.flatMap(kind => kind.lines.map(line => el("tr", {},
      el("th", { scope: "row" }, data.algorithms[line.a]), el("td", {}, kind.name), ...steps.map(i => el("td", { class: "number" }, fixed(line.y[i], 2)))))))));
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

  // ---- printing: everything open

  let undo = [];
  function expand() {
    for (const make of onPrint) undo.push(make());
    const boxes = [...document.querySelectorAll("details:not([open])")];
    for (const box of boxes) box.open = true;
    undo.push(() => { for (const box of boxes) box.open = false; });
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
  profiles();
  episodes();
  runs();
  for (const id of ["results", "across", "curves", "logged", "certified"]) if (!section(id).querySelector("svg, li, td")) remove(id);
  if (!section("planes").querySelector("figure")) remove("planes");
  header();
  document.querySelectorAll("svg.chart").forEach(readable);
  document.querySelectorAll(".legend").forEach(chooses);
})();
