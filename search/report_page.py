"""The page of a report: HTML with places `@@name@@`, its style, and the script that fills it."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>@@title@@</title>
<style>@@style@@</style>
</head>
<body>
<header><h1>@@title@@</h1><ul>@@summary@@</ul></header>
<main>
<section id="cells"><h2>Cells</h2><div id="shown"></div></section>
<div id="figures"></div>
<section id="trials"><h2>Trials</h2>
<label>Filter <input id="filter" type="search" placeholder="finalists val_acc&gt;0.9" autocomplete="off"></label>
<span id="count" role="status"></span>
<div class="scroll"><table><thead><tr></tr></thead><tbody></tbody></table></div>
<button id="more" type="button">Show more</button>
<p class="note">Words must occur in a row; val_acc&gt;0.9 and macs&lt;2e6 compare a column. Click a heading to sort,
a row to draw its cell.</p>
</section>
<section><h2>Settings</h2><details><summary>Settings</summary><pre>@@settings@@</pre></details>
<details><summary>Versions and machine</summary><pre>@@versions@@</pre></details></section>
</main>
<aside id="panel" hidden></aside>
<script>@@plotly@@</script>
<script id="data" type="application/json">@@data@@</script>
<script>@@script@@</script>
</body>
</html>
"""

STYLE = """
:root { color-scheme: light dark; --back: #fff; --card: #f6f7f9; --text: #1b1f24; --dim: #5c6670; --line: #d5dae0;
  --mark: #0b62c4; }
@media (prefers-color-scheme: dark) { :root { --back: #14171b; --card: #1d2126; --text: #e6e9ed; --dim: #9aa4af;
  --line: #343b43; --mark: #6cb0ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
header, main { max-width: 1500px; margin: 0 auto; padding: 0 16px; }
h1 { font-size: 1.5rem; margin: 20px 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 4px; }
header ul { list-style: none; margin: 0 0 16px; padding: 0; color: var(--dim); overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px; margin: 0 0 16px; }
#figures { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr));
  margin-bottom: 16px; }
#figures section { margin: 0; min-width: 0; }
.plot { height: 400px; }
.note { color: var(--dim); font-size: .87rem; margin: 4px 0 0; }
#shown { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .87rem; color: var(--dim); overflow-wrap: anywhere; padding-right: 12px; }
figure svg { width: 100%; height: auto; max-height: 460px; display: block; overflow: visible; }
figure text { fill: #14171b; font: 11px system-ui, sans-serif; text-anchor: middle; dominant-baseline: central; }
figure path { fill: none; stroke: var(--dim); stroke-width: 1.2; }
.scroll { overflow: auto; max-height: 70vh; margin-top: 8px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .87rem; width: 100%; }
th, td { text-align: right; padding: 3px 10px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:nth-child(-n+3), td:nth-child(-n+3) { text-align: left; }
td:nth-child(3) { max-width: 30ch; overflow: hidden; text-overflow: ellipsis; }
th { position: sticky; top: 0; background: var(--card); padding: 0; }
th button { all: unset; cursor: pointer; padding: 3px 10px; font-weight: 600; }
th button:focus-visible, tbody tr:focus-visible { outline: 2px solid var(--mark); }
tbody tr { cursor: pointer; }
tbody tr:hover { background: var(--line); }
input { font: inherit; width: min(100%, 26rem); padding: 4px 8px; }
#more { font: inherit; margin-top: 8px; }
pre { overflow: auto; font-size: .8rem; }
#panel { position: fixed; right: 12px; bottom: 12px; width: min(360px, calc(100vw - 24px)); max-height: 60vh;
  overflow: auto; background: var(--back); border: 1px solid var(--line); border-radius: 8px; padding: 10px;
  box-shadow: 0 4px 18px #0004; pointer-events: none; z-index: 5; }
"""

SCRIPT = r"""
"use strict";
const D = JSON.parse(document.getElementById("data").textContent);
const COLORS = ["#4c8dd6", "#e0802b", "#3a9d5d", "#b35fc0", "#c9b037", "#5fb7b7", "#d1605e", "#8b8f95"];
const column = name => D.columns.indexOf(name);
const make = (tag, attributes = {}, text = "") => {
  const svg = ["svg", "path", "rect", "text", "g", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text) node.textContent = text;
  return node;
};

function drawCell(k) {
  const cell = D.cells[k];
  if (!cell) return make("p", {}, "This architecture is no graph of ops.");
  const [codes, flat] = cell, n = codes.length;
  const edges = [], before = codes.map(() => []);
  for (let e = 0; e < flat.length; e += 2) { edges.push([flat[e], flat[e + 1]]); before[flat[e + 1]].push(flat[e]); }
  const depth = codes.map(() => 0), at = codes.map(() => 0), layers = [];
  for (let v = 0; v < n; v++) {
    for (const u of before[v]) depth[v] = Math.max(depth[v], depth[u] + 1);
    (layers[depth[v]] ??= []).push(v);
  }
  const widest = Math.max(...layers.map(layer => layer.length)), width = Math.max(260, widest * 92);
  for (const layer of layers) {
    const mean = v => before[v].reduce((sum, u) => sum + at[u], 0) / Math.max(1, before[v].length);
    layer.sort((a, b) => mean(a) - mean(b) || a - b);
    layer.forEach((v, place) => { at[v] = width * (place + 0.5) / layer.length; });
  }
  const y = v => 20 + 46 * depth[v];
  const svg = make("svg", {viewBox: `0 0 ${width} ${46 * layers.length}`, role: "img",
    "aria-label": `cell of ${n} nodes`});
  for (const [u, v] of edges) {
    const bend = (y(v) - y(u)) / 2, hidden = depth[v] - depth[u] > 1 && Math.abs(at[u] - at[v]) < 42;
    const aside = hidden ? (at[u] < width / 2 ? -70 : 70) : 0;  // past the nodes it would run behind
    svg.append(make("path", {d: `M${at[u]} ${y(u) + 11}C${at[u] + aside} ${y(u) + bend} ` +
      `${at[v] + aside} ${y(v) - bend} ${at[v]} ${y(v) - 11}`}));
  }
  codes.forEach((code, v) => {
    const fill = D.ops[code] === "input" ? "#c3c9d0" : COLORS[(code + COLORS.length - 1) % COLORS.length];
    svg.append(make("rect", {x: at[v] - 42, y: y(v) - 11, width: 84, height: 22, rx: 5, fill}));
    svg.append(make("text", {x: at[v], y: y(v)}, D.ops[code]));
  });
  return svg;
}

const number = value => value === null ? "" : typeof value !== "number" ? value
  : Math.abs(value) >= 1e5 ? `${(value / 1e6).toFixed(3)} M` : Number.isInteger(value) ? `${value}` : value.toFixed(4);

function card(k, how) {
  const row = D.rows[k], known = ["score", "val_acc", "macs", "params"].filter(name => column(name) >= 0);
  const figure = make("figure");
  const facts = known.map(name => `${name} ${number(row[column(name)])}`).join(", ");
  figure.append(make("figcaption", {}, `${how} cell ${row[0]}: ${facts}`), drawCell(k));
  return figure;
}

const panel = document.getElementById("panel");
function show(k) { panel.replaceChildren(card(k, D.rows[k][1])); panel.hidden = false; }
function hide() { panel.hidden = true; }

function theme() {
  const style = getComputedStyle(document.documentElement), get = name => style.getPropertyValue(name).trim();
  const axis = {gridcolor: get("--line"), zerolinecolor: get("--line"), linecolor: get("--line"), automargin: true};
  return {paper_bgcolor: "#0000", plot_bgcolor: "#0000", font: {color: get("--text"), size: 12}, colorway: COLORS,
    margin: {l: 50, r: 10, t: 30, b: 40}, hovermode: "closest", legend: {orientation: "h", y: -0.2, yanchor: "top"},
    modebar: {bgcolor: "#0000", color: get("--dim"), activecolor: get("--mark")}, axis};
}
function layoutOf(figure) {
  const {axis, ...rest} = theme();
  return {...rest, xaxis: {...axis, ...figure.layout.xaxis}, yaxis: {...axis, ...figure.layout.yaxis}};
}
for (const figure of D.figures) {
  const section = make("section");
  section.append(make("h2", {}, figure.title));
  if (figure.data.length) section.append(make("div", {class: "plot", id: figure.id}));
  section.append(make("p", {class: "note"}, figure.text));
  document.getElementById("figures").append(section);
}
for (const figure of D.figures.filter(figure => figure.data.length)) {  // when all have their final widths
  const plot = document.getElementById(figure.id);
  Plotly.newPlot(plot, figure.data, layoutOf(figure), {responsive: true, displaylogo: false});
  plot.on("plotly_hover", event => {
    const point = event.points.find(point => point.customdata !== undefined);
    if (point) show(point.customdata);
  });
  plot.on("plotly_unhover", hide);
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const figure of D.figures) if (figure.data.length) Plotly.relayout(figure.id, layoutOf(figure));
});

document.getElementById("shown").append(...D.shown.map(([how, k]) => card(k, how)));
if (!D.shown.length) document.getElementById("cells").hidden = true;

const PAGE_ROWS = 100;
let order = D.rows.map((_, k) => k), sorted = {by: -1, down: false}, limit = PAGE_ROWS;
const head = document.querySelector("thead tr"), body = document.querySelector("tbody");
const filter = document.getElementById("filter"), more = document.getElementById("more");
function test(word) {
  const parts = word.match(/^(\w+)(<=|>=|<|>|=)(.+)$/), by = parts ? column(parts[1]) : -1;
  if (by < 0) return row => row.some(value => `${value}`.toLowerCase().includes(word.toLowerCase()));
  const limit = Number(parts[3]), is = {"<": a => a < limit, ">": a => a > limit, "<=": a => a <= limit,
    ">=": a => a >= limit, "=": a => a === limit || `${a}` === parts[3]}[parts[2]];
  return row => row[by] !== null && is(row[by]);
}
function compare(a, b) {
  const x = D.rows[a][sorted.by], y = D.rows[b][sorted.by];
  if (x === null || y === null) return (x === null) - (y === null);
  return (sorted.down ? -1 : 1) * (x < y ? -1 : x > y ? 1 : 0);
}
function fill() {
  const tests = filter.value.split(/\s+/).filter(Boolean).map(test);
  const found = order.filter(k => tests.every(passes => passes(D.rows[k])));
  if (sorted.by >= 0) found.sort(compare);
  body.replaceChildren(...found.slice(0, limit).map(k => {
    const row = make("tr", {tabindex: 0});
    row.append(...D.rows[k].map(value => make("td", {}, `${number(value)}`)));
    row.onclick = row.onfocus = () => show(k);
    row.onblur = row.onmouseleave = hide;
    return row;
  }));
  more.hidden = found.length <= limit;
  document.getElementById("count").textContent = `${found.length} of ${D.rows.length}`;
}
D.columns.forEach((name, by) => {
  const cell = make("th", {"aria-sort": "none"}), button = make("button", {type: "button"}, name);
  button.onclick = () => {
    sorted = {by, down: sorted.by === by ? !sorted.down : by > 2};
    for (const other of head.children) other.setAttribute("aria-sort", "none");
    cell.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
    fill();
  };
  cell.append(button);
  head.append(cell);
});
filter.oninput = () => { limit = PAGE_ROWS; fill(); };
more.onclick = () => { limit += 10 * PAGE_ROWS; fill(); };
fill();
"""
