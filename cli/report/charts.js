"use strict";
/* Charts as SVG, from plain numbers. Everything is text or attributes, never HTML: names in a run are shown, not run. */
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6bb1", "#999933"];
const SVG = "http://www.w3.org/2000/svg";
function make(space, tag, attrs, children) {
  const node = space ? document.createElementNS(space, tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attrs || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "text") node.textContent = value;
    else if (value !== null && value !== undefined) node.setAttribute(key, value);
  }
  for (const child of children) if (child) node.append(child);
  return node;
}
const el = (tag, attrs, ...children) => make(null, tag, attrs, children);
const svg = (tag, attrs, ...children) => make(SVG, tag, attrs, children);
const isNumber = (v) => typeof v === "number" && Number.isFinite(v);
function short(v) {
  if (!isNumber(v)) return "–";
  const size = Math.abs(v);
  return size >= 100 ? v.toFixed(0) : size >= 10 ? v.toFixed(1) : size >= 1 ? v.toFixed(2) : v === 0 ? "0" : v.toFixed(3);
}
/* as many digits as the steps between the ticks need */
const tickText = (t, all) => t.toFixed(all.length > 1 ? Math.min(6, Math.max(0, -Math.floor(Math.log10(all[1] - all[0]) + 1e-9))) : 0);
function ticks(low, high, wanted) {
  const raw = (high - low) / wanted || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= raw);
  const out = [];
  for (let t = Math.ceil(low / step - 1e-9) * step; t <= high + step * 1e-9; t += step) out.push(Math.abs(t) < step * 1e-9 ? 0 : t);
  return out;
}
function frameOf(xs, ys, options) {
  const W = 460, H = options.height || 230, left = 46, right = 12, top = 8, bottom = 34;
  let [x0, x1] = [Math.min(...xs), Math.max(...xs)], [y0, y1] = [Math.min(...ys), Math.max(...ys)];
  if (options.zero) y0 = Math.min(0, y0);
  if (options.top !== undefined) y1 = Math.max(options.top, y1);
  if (x0 === x1) { x0 -= 0.5; x1 += 0.5; }
  if (y0 === y1) { y0 -= Math.abs(y0) * 0.05 || 0.5; y1 += Math.abs(y1) * 0.05 || 0.5; }
  const pad = options.zero ? 0 : (y1 - y0) * 0.06; y0 -= pad; y1 += (y1 - y0) * 0.04;
  const X = (x) => left + ((x - x0) / (x1 - x0)) * (W - left - right), Y = (y) => H - bottom - ((y - y0) / (y1 - y0)) * (H - top - bottom);
  const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": options.label });
  const marks = ticks(y0, y1, 4);
  for (const t of marks) {
    root.append(svg("line", { class: "axis", x1: left, x2: W - right, y1: Y(t), y2: Y(t) }), svg("text", { x: left - 6, y: Y(t) + 4, "text-anchor": "end", text: tickText(t, marks) }));
  }
  const along = ticks(x0, x1, 6);
  for (const t of along) if (!options.whole || Number.isInteger(t)) root.append(svg("text", { x: X(t), y: H - bottom + 16, "text-anchor": "middle", text: options.xText ? options.xText(t) : options.whole ? String(Math.round(t)) : tickText(t, along) }));
  if (options.x) root.append(svg("text", { x: (left + W - right) / 2, y: H - 4, "text-anchor": "middle", text: options.x }));
  return { root, X, Y, W, H, base: Y(Math.max(0, y0)), bottom: H - bottom };
}
function figure(title, chart, legend) {
  return el("figure", {}, el("figcaption", { text: title }), chart, legend && legend.length > 1 ? el("div", { class: "legend" }, ...legend.map((s) => {
    const mark = el("i", {}); mark.style.background = s.colour;
    return el("span", {}, mark, document.createTextNode(s.name));
  })) : null);
}
const empty = (title, why) => figure(title, el("p", { class: "note", text: why || "nothing recorded" }));
/* series: [{name, colour, dashed, points: [[x, y]]}] */
function lines(title, series, options = {}) {
  series = series.map((s, i) => ({ colour: COLOURS[i % COLOURS.length], ...s, points: s.points.filter((p) => isNumber(p[0]) && isNumber(p[1])) })).filter((s) => s.points.length);
  if (!series.length) return empty(title, options.none);
  const all = series.flatMap((s) => s.points), f = frameOf(all.map((p) => p[0]), all.map((p) => p[1]), { label: title, whole: true, ...options });
  for (const s of series) {
    f.root.append(svg("polyline", { points: s.points.map((p) => `${f.X(p[0])},${f.Y(p[1])}`).join(" "), fill: "none", stroke: s.colour, "stroke-width": 2, "stroke-dasharray": s.dashed ? "5 4" : null }));
    const few = s.points.length <= 40;
    for (const p of s.points) {
      const said = svg("title", { text: `${s.name}: ${short(p[1])} at ${options.xText ? options.xText(p[0]) : p[0]}` });
      if (few) f.root.append(svg("circle", { class: "dot", cx: f.X(p[0]), cy: f.Y(p[1]), r: 3, fill: s.colour }, said));
      else f.root.append(svg("circle", { class: "hit", cx: f.X(p[0]), cy: f.Y(p[1]), r: 5 }, said));
    }
  }
  return figure(title, f.root, series);
}
/* layers stacked per x: columns: [{x, values: {name: v}}] */
function stacked(title, columns, options = {}) {
  columns = columns.filter((c) => Object.values(c.values).some(isNumber));
  const names = [...new Set(columns.flatMap((c) => Object.keys(c.values)))];
  if (!columns.length) return empty(title);
  const totals = columns.map((c) => Object.values(c.values).filter(isNumber).reduce((a, b) => a + b, 0)), xs = columns.map((c) => c.x);
  const f = frameOf([Math.min(...xs) - 0.5, Math.max(...xs) + 0.5], [0, ...totals], { label: title, zero: true, whole: true, ...options });
  const width = Math.max(1, (f.X(1) - f.X(0)) * 0.8);
  columns.forEach((c) => {
    let sum = 0;
    names.forEach((name, i) => {
      const v = c.values[name];
      if (!isNumber(v) || v <= 0) return;
      f.root.append(svg("rect", { x: f.X(c.x) - width / 2, width, y: f.Y(sum + v), height: Math.max(0, f.Y(sum) - f.Y(sum + v)), fill: COLOURS[i % COLOURS.length] }, svg("title", { text: `${name}: ${short(v)} at ${c.x}` })));
      sum += v;
    });
  });
  return figure(title, f.root, names.map((name, i) => ({ name, colour: COLOURS[i % COLOURS.length] })));
}
/* one or two histograms of the same unit: [{name, counts, edges}] */
function histograms(title, series, options = {}) {
  series = series.filter((s) => s && s.counts).map((s, i) => ({ colour: COLOURS[i], ...s }));
  if (!series.length) return empty(title);
  const points = series.flatMap((s) => s.counts.map((c) => c / s.counts.reduce((a, b) => a + b, 0)));
  const f = frameOf(series.flatMap((s) => [s.edges[0], s.edges.at(-1)]), [0, ...points], { label: title, zero: true, ...options });
  for (const s of series) {
    const total = s.counts.reduce((a, b) => a + b, 0), path = [];
    s.counts.forEach((c, i) => path.push(`${f.X(s.edges[i])},${f.Y(c / total)}`, `${f.X(s.edges[i + 1])},${f.Y(c / total)}`));
    f.root.append(svg("polygon", { points: [`${f.X(s.edges[0])},${f.base}`, ...path, `${f.X(s.edges.at(-1))},${f.base}`].join(" "), fill: s.colour, "fill-opacity": 0.25, stroke: s.colour, "stroke-width": 1.5 }, svg("title", { text: s.name })));
  }
  return figure(title, f.root, series);
}
/* square of shares 0 to 1 */
function heat(title, matrix, options = {}) {
  const n = matrix.length;
  if (n < 2) return empty(title, "needs two refreshes");
  const size = 300 / n, root = svg("svg", { viewBox: "0 0 360 330", role: "img", "aria-label": title });
  matrix.forEach((row, i) => row.forEach((v, j) => root.append(svg("rect", { x: 40 + j * size, y: i * size, width: size * 0.97, height: size * 0.97, fill: COLOURS[0], "fill-opacity": isNumber(v) ? 0.06 + 0.94 * v : 0 }, svg("title", { text: `refresh ${i} and ${j}: ${short(100 * v)} %` })))));
  for (let i = 0; i < n; i += Math.ceil(n / 10)) root.append(svg("text", { x: 34, y: (i + 0.7) * size, "text-anchor": "end", text: i }), svg("text", { x: 40 + (i + 0.5) * size, y: 316, "text-anchor": "middle", text: i }));
  return figure(title, root);
}
