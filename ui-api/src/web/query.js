"use strict";
// Asks /api/v1/query_range and draws lines, or /api/v1/query and lists values. Text from the server only ever becomes
// text nodes.
const at = id => document.getElementById(id);
const SERIES_MAX = 60, WIDTH = 1160, HEIGHT = 380, LEFT = 64, BOTTOM = 26, TOP = 10;
const SECONDS = {s: 1, m: 60, h: 3600, d: 86400, w: 604800};
let tab = "graph", asking = 0;

function make(parent, name, attributes, text) {
    const svg = ["svg", "path", "line", "text", "rect"].includes(name);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.appendChild(node);
    return node;
}
const seconds = text => { const m = /^(\d+)([smhdw])$/.exec(text); return m ? m[1] * SECONDS[m[2]] : 3600; };
const hue = i => `hsl(${(28 + i * 137.5) % 360} 65% 50%)`;
function spelled(metric) {
    const {__name__: name, ...rest} = metric;
    const labels = Object.entries(rest).map(([k, v]) => `${k}=${JSON.stringify(v)}`).join(", ");
    return (name || "") + (labels || !name ? `{${labels}}` : "");
}
function short(v) {
    const size = Math.abs(v);
    for (const [unit, n] of [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]]) if (size >= n) return +(v / n).toPrecision(4) + unit;
    return String(+v.toPrecision(4));
}
function ticks(low, high, wanted) {
    const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map(n => n * power).find(n => n >= rough);
    const out = [];
    for (let v = Math.ceil(low / step) * step; v <= high + step / 1e6; v += step) out.push(Math.abs(v) < step / 1e6 ? 0 : v);
    return out;
}
function clock(t, range) {
    const d = new Date(t * 1000), two = n => String(n).padStart(2, "0");
    const day = `${two(d.getMonth() + 1)}-${two(d.getDate())} `, time = `${two(d.getHours())}:${two(d.getMinutes())}`;
    return (range > 86400 ? day : "") + time + (range <= 900 ? ":" + two(d.getSeconds()) : "");
}

function draw(series, start, end) {
    const chart = at("chart"), legend = at("legend");
    const shown = series.slice(0, SERIES_MAX).map((s, i) => ({
        name: spelled(s.metric), color: hue(i), points: (s.values || []).map(([t, v]) => [t, +v]).filter(p => isFinite(p[1])),
    }));
    let low = Infinity, high = -Infinity;
    for (const s of shown) for (const [, v] of s.points) { low = Math.min(low, v); high = Math.max(high, v); }
    if (low > high) return;
    if (low > 0 && low < high / 2) low = 0;
    if (low === high) { low -= Math.abs(low) || 1; high += Math.abs(high) || 1; }
    const x = t => LEFT + (t - start) / (end - start) * (WIDTH - LEFT - 8);
    const y = v => TOP + (high - v) / (high - low) * (HEIGHT - TOP - BOTTOM);
    const svg = make(chart, "svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img"});
    for (const v of ticks(low, high, 6)) {
        make(svg, "line", {x1: LEFT, x2: WIDTH - 8, y1: y(v), y2: y(v), stroke: "var(--line)"});
        make(svg, "text", {x: LEFT - 8, y: y(v) + 4, "text-anchor": "end"}, short(v));
    }
    const range = end - start, steps = [1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800];
    const step = steps.find(s => range / s <= 9) || 432000, shift = new Date().getTimezoneOffset() * 60;
    for (let t = Math.ceil((start - shift) / step) * step + shift; t <= end; t += step)
        make(svg, "text", {x: x(t), y: HEIGHT - 6, "text-anchor": "middle"}, clock(t, range));
    const gap = range / 240 * 1.5 + 1;
    for (const s of shown) {
        let path = "", before = -Infinity;
        for (const [t, v] of s.points) { path += (t - before > gap ? "M" : "L") + x(t).toFixed(1) + " " + y(v).toFixed(1); before = t; }
        make(svg, "path", {d: path, fill: "none", stroke: s.color, "stroke-width": 1.6, "stroke-linejoin": "round", "stroke-linecap": "round"});
    }
    const hair = make(svg, "line", {y1: TOP, y2: HEIGHT - BOTTOM, stroke: "var(--soft)", "stroke-dasharray": "3 3", visibility: "hidden"});
    const table = make(legend, "table"), cells = [];
    for (const s of shown) {
        const row = make(table, "tr");
        make(make(row, "td"), "i", {style: `background:${s.color}`});
        make(row, "td", {class: "mono"}, s.name);
        cells.push(make(row, "td", {class: "n"}));
    }
    if (series.length > SERIES_MAX) make(legend, "p", {class: "soft"}, `${series.length - SERIES_MAX} more series are not drawn.`);
    const values = t => shown.forEach((s, i) => {
        const near = s.points.filter(p => p[0] <= t).pop();
        cells[i].textContent = near && t - near[0] <= gap ? short(near[1]) : "";
    });
    values(end);
    svg.onmousemove = event => {
        const box = svg.getBoundingClientRect(), px = (event.clientX - box.left) / box.width * WIDTH;
        const t = start + (px - LEFT) / (WIDTH - LEFT - 8) * (end - start);
        if (t < start || t > end) return;
        hair.setAttribute("x1", px); hair.setAttribute("x2", px); hair.setAttribute("visibility", "visible");
        at("said").textContent = new Date(t * 1000).toLocaleString();
        values(t);
    };
    svg.onmouseleave = () => { hair.setAttribute("visibility", "hidden"); at("said").textContent = ""; values(end); };
}

function list(kind, result) {
    const rows = kind === "scalar" || kind === "string" ? [{metric: {}, value: result}] : result;
    const table = make(at("legend"), "table");
    for (const s of rows.slice(0, 1000)) {
        const row = make(table, "tr");
        make(row, "td", {class: "mono", style: "width:auto"}, kind === "vector" || kind === "matrix" ? spelled(s.metric) : kind);
        const values = s.values || (s.value ? [s.value] : []);
        const native = s.histogram ? `count ${s.histogram[1].count}, sum ${s.histogram[1].sum}` : "";
        make(row, "td", {class: "n"}, values.map(v => v[1]).slice(-20).join(" ") || native);
    }
}

async function run() {
    const expr = at("expr").value.trim(), mine = ++asking;
    if (!expr) return;
    const range = at("range").value, keep = new URLSearchParams({"g0.expr": expr, "g0.range_input": range, "g0.tab": tab === "graph" ? "0" : "1"});
    history.replaceState(null, "", "query?" + keep);
    const end = Date.now() / 1000, start = end - seconds(range), step = Math.max(seconds(range) / 240, 1);
    const form = tab === "graph" ? {query: expr, start, end, step} : {query: expr, time: end};
    at("said").textContent = "…";
    let answer, since = performance.now();
    try {
        const response = await fetch("api/v1/" + (tab === "graph" ? "query_range" : "query"), {method: "POST", body: new URLSearchParams(form)});
        answer = await response.json();
    } catch (e) { answer = {status: "error", error: String(e)}; }
    if (mine !== asking) return;
    at("chart").replaceChildren(); at("legend").replaceChildren();
    const failed = answer.status !== "success", told = failed ? [answer.error] : [...(answer.warnings || []), ...(answer.infos || [])];
    at("wrong").hidden = !told.length; at("wrong").textContent = told.join("\n");
    at("said").textContent = "";
    if (failed) return;
    const {resultType: kind, result} = answer.data;
    at("said").textContent = `${result.length} series, ${Math.round(performance.now() - since)} ms`;
    if (tab === "graph" && kind === "matrix") draw(result, start, end); else list(kind, result);
    if (!result.length) make(at("legend"), "p", {class: "soft"}, "No data.");
}

const given = new URLSearchParams(location.search);
at("expr").value = given.get("g0.expr") || given.get("expr") || "";
const asked = given.get("g0.range_input");
if (asked && /^\d+[smhdw]$/.test(asked)) {
    if (![...at("range").options].some(o => o.value === asked)) make(at("range"), "option", {}, asked);
    at("range").value = asked;
}
function select(name) {
    tab = name;
    for (const b of document.querySelectorAll("[data-tab]")) b.setAttribute("aria-selected", b.dataset.tab === name);
}
select(given.get("g0.tab") === "1" || given.get("g0.tab") === "table" ? "table" : "graph");
document.querySelector("form.q").onsubmit = event => { event.preventDefault(); run(); };
at("range").onchange = run;
for (const b of document.querySelectorAll("[data-tab]")) b.onclick = () => { select(b.dataset.tab); run(); };
fetch("api/v1/label/__name__/values?limit=5000").then(r => r.json()).then(names => {
    for (const name of names.data || []) make(at("names"), "option", {value: name});
}).catch(() => {});
run();
