const RUNS = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main"), nav = document.getElementById("nav");
const many = RUNS.length > 1, epochOf = (row) => (row.epoch === "start" ? 0 : row.epoch + 1), epochText = (x) => (x === 0 ? "start" : String(x));
function section(id, title, note, ...children) {
  main.append(el("h2", { id, text: title }), note ? el("p", { class: "note", text: note }) : "", ...children);
  nav.append(el("a", { href: "#" + id, text: title }));
}
const grid = (...figures) => el("div", { class: "grid" }, ...figures.flat());
const label = (run, text) => (many ? `${run.name} ${text}` : text);
const trained = (run) => run.rows.filter((r) => r.seconds && "train" in r.seconds);
/* A refresh's figures are repeated in each epoch that trained on it. */
function refreshesOf(run) { const seen = new Map(); for (const r of run.rows) if (r.refresh) seen.set(r.refresh.refresh, r.refresh); return [...seen.values()]; }

function findings() {
  for (const run of RUNS) {
    if (many) main.append(el("h3", { text: run.name }));
    main.append(el("ul", { class: "findings" }, ...run.findings.map((f) => el("li", { class: f.kind, text: f.text }))));
  }
}
const TITLES = { mpjpe: "MPJPE, mm", pa_mpjpe: "PA-MPJPE, mm", pck_torso: "PCK@0.2 of the torso", pck_box: "PCK@0.1 of the box", pve: "PVE, mm" };
function benchmarks() {
  const sets = [...new Set(RUNS.flatMap((run) => run.rows.flatMap((r) => Object.keys(r.scores || {}))))], figures = [];
  for (const set of sets) {
    const keys = [...new Set(RUNS.flatMap((run) => run.rows.flatMap((r) => Object.keys((r.scores || {})[set] || {}))))].filter((k) => k !== "invalid");
    for (const key of keys) {
      const series = RUNS.map((run, i) => ({ name: many ? run.name : set, colour: COLOURS[i % COLOURS.length], points: run.rows.filter((r) => (r.scores || {})[set]).map((r) => [epochOf(r), r.scores[set][key]]) }));
      figures.push(lines(`${set}: ${TITLES[key] || key}`, series, { x: "epochs trained", xText: epochText }));
    }
  }
  section("benchmarks", "Does it get better?", "Validation after each epoch; lower is better for errors in mm, higher for PCK.", grid(figures));
}
function loop() {
  const err = [], made = [];
  RUNS.forEach((run, i) => {
    const all = refreshesOf(run), colour = COLOURS[(2 * i) % 8], second = COLOURS[(2 * i + 1) % 8];
    err.push({ name: label(run, "when mined"), colour, points: all.map((r) => [r.refresh, r.challenge_error]) }, { name: label(run, "after training on what was made for them"), colour: second, dashed: true, points: all.map((r) => [r.refresh, r.challenge_error_after]) });
    made.push({ name: label(run, "passed the filter"), colour, points: all.map((r) => [r.refresh, r.made ? (100 * r.passed) / r.made : null]) });
  });
  const quart = RUNS.flatMap((run, i) => [0, 1, 2].map((q) => ({ name: label(run, ["lower quartile", "median", "upper quartile"][q]), colour: COLOURS[(3 * i + q) % 8], dashed: q !== 1, points: run.refreshes.map((r) => [r.refresh, r.quartiles && r.quartiles[q]]) })));
  const err3d = RUNS.map((run, i) => ({ name: label(run, "mean"), colour: COLOURS[i], points: refreshesOf(run).map((r) => [r.refresh, r.err3d_mean]) }));
  section("loop", "Does the loop help?", "A refresh mines the people with the largest error (challenges) and has pictures made for them. Their error is measured again after training on those pictures: the dashed line should lie below the other.", grid(
    lines("Error of the mined people, px of the crop", err, { x: "refresh", zero: true }), lines("Error of everyone in the mined data, px of the crop", quart, { x: "refresh", none: "list callbacks.Record in the config" }),
    lines("Samples that passed the filter, %", made, { x: "refresh", zero: true, top: 100 }), lines("Error of the estimator on the samples (Err3D), mm", err3d, { x: "refresh" })));
}
const MAN = { head_top: [50, 4], upper_neck: [50, 20], neck: [50, 24], nose: [50, 12], left_shoulder: [66, 27], right_shoulder: [34, 27], left_elbow: [76, 47], right_elbow: [24, 47], left_wrist: [82, 66], right_wrist: [18, 66], left_hip: [59, 66], right_hip: [41, 66], left_knee: [62, 94], right_knee: [38, 94], left_ankle: [64, 122], right_ankle: [36, 122] };
const BONES = ["head_top upper_neck", "upper_neck left_shoulder", "upper_neck right_shoulder", "left_shoulder left_elbow", "left_elbow left_wrist", "right_shoulder right_elbow", "right_elbow right_wrist", "left_shoulder left_hip", "right_shoulder right_hip", "left_hip right_hip", "left_hip left_knee", "left_knee left_ankle", "right_hip right_knee", "right_knee right_ankle"].map((b) => b.split(" "));
function man(title, joints) {
  const named = Object.entries(joints || {}).filter(([n]) => MAN[n]);
  if (!named.length) return empty(title);
  const root = svg("svg", { viewBox: "-50 -4 200 136", role: "img", "aria-label": title }), most = Math.max(...named.map(([, v]) => v));
  for (const [a, b] of BONES) root.append(svg("line", { class: "axis", x1: MAN[a][0], y1: MAN[a][1], x2: MAN[b][0], y2: MAN[b][1], "stroke-width": 2 }));
  for (const [name, v] of named) {
    const [x, y] = MAN[name], right = x >= 50;
    root.append(svg("circle", { cx: x, cy: y, r: 2 + (7 * v) / most, fill: "#d55e00", "fill-opacity": 0.25 + (0.65 * v) / most }, svg("title", { text: `${name.replace("_", " ")}: ${short(100 * v)} % of the crop` })));
    const words = svg("text", { x: right ? x + 12 : x - 12, y: name.endsWith("hip") ? y + 14 : y + 2, "text-anchor": right ? "start" : "end", text: `${name.replace(/^(left|right)_/, "").replace("_", " ")} ${short(100 * v)}` });
    words.style.fontSize = "5px"; root.append(words);
  }
  return figure(title, root);
}
function groupTable(run) {
  const last = run.refreshes.at(-1), first = run.refreshes[0];
  const then = Object.fromEntries(first.groups.map((g) => [g.group, g]));
  const rows = last.groups.filter((g) => g.people).map((g) => ({ ...g, lift: g.share ? (g.share_of_challenges || 0) / g.share : null, then: (then[g.group] || {}).error }));
  rows.sort((a, b) => (b.lift || 0) - (a.lift || 0));
  const most = Math.max(1, ...rows.map((r) => r.lift || 0));
  return el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, ...["people who are", "number", "of everyone", "of the challenges", "times as frequent", "mean error, px", "of the others", "at the first refresh"].map((t) => el("th", { text: t })))),
    el("tbody", {}, ...rows.map((r) => {
      const bar = el("span", { class: "bar" }); bar.style.width = `${(70 * (r.lift || 0)) / most}px`;
      return el("tr", { class: r.lift >= 1.4 && r.people >= 3 ? "hard" : "" }, el("td", { text: r.group }), el("td", { text: r.people }), el("td", { text: short(100 * r.share) + " %" }), el("td", { text: short(100 * (r.share_of_challenges || 0)) + " %" }), el("td", {}, document.createTextNode(short(r.lift)), bar), el("td", { text: short(r.error) }), el("td", { text: short(r.error_elsewhere) }), el("td", { text: short(r.then) }));
    }))));
}
function failures() {
  const children = [];
  for (const run of RUNS.filter((r) => r.refreshes.length)) {
    const first = run.refreshes[0], last = run.refreshes.at(-1);
    if (many) children.push(el("h3", { text: run.name }));
    children.push(groupTable(run), grid(
      man("Joints of the challenges, last refresh: mean error, % of the crop", last.joints),
      histograms("Error of everyone in the mined data", [first.histogram && { name: `refresh ${first.refresh}`, ...first.histogram }, last !== first && last.histogram && { name: `refresh ${last.refresh}`, ...last.histogram }].filter(Boolean), { x: "px of the crop" }),
      lines("Kinds of poses: mean error, px", hardest(run), { x: "refresh" }), overlap(run)));
  }
  if (!children.length) children.push(el("p", { class: "note", text: "Nothing recorded: list callbacks.Record in the run's config." }));
  section("failures", "Whom does it get wrong?", "Kinds of poses told from the labelled 2D joints. Bold: at least 1.4 times as frequent among the challenges as in the data. A joint's circle grows with its error.", ...children);
}
function hardest(run) {
  const last = run.refreshes.at(-1).groups.filter((g) => g.people >= 3 && g.share);
  const names = last.sort((a, b) => (b.share_of_challenges || 0) / b.share - (a.share_of_challenges || 0) / a.share).slice(0, 5).map((g) => g.group);
  return names.map((name) => ({ name, points: run.refreshes.map((r) => [r.refresh, (r.groups.find((g) => g.group === name) || {}).error]) }));
}
function overlap(run) {
  const some = run.refreshes.length <= 40 ? run.refreshes : run.refreshes.filter((_, i) => i % Math.ceil(run.refreshes.length / 40) === 0);
  const sets = some.map((r) => new Set(r.mined));
  const share = (a, b) => { let both = 0; for (const x of a) if (b.has(x)) both++; return both / Math.max(1, Math.min(a.size, b.size)); };
  return heat("The same people mined by two refreshes (share)", sets.map((a) => sets.map((b) => share(a, b))));
}
function tiles(entry, items, words) {
  const sheet = entry.sheet, count = entry.challenges.length + entry.samples.length;
  return el("div", { class: "tiles" }, ...items.map((item) => {
    const picture = el("div", { role: "img", "aria-label": words(item)[0] });
    picture.style.backgroundImage = `url(${sheet})`;
    picture.style.backgroundSize = `100% ${100 * count}%`;
    picture.style.backgroundPosition = `0 ${count > 1 ? (100 * item.tile) / (count - 1) : 0}%`;
    return el("div", { class: "tile" }, picture, el("b", { text: words(item)[0] }), document.createTextNode(" " + words(item)[1]));
  }));
}
function galleries() {
  const shown = RUNS.map((run) => run.refreshes.filter((r) => r.sheet));
  if (!shown.some((s) => s.length)) return;
  const host = el("div", {}), words = el("output", {});
  const which = el("select", { "aria-label": "run" }, ...RUNS.map((run, i) => el("option", { value: i, text: run.name })));
  const slider = el("input", { type: "range", min: 0, step: 1, "aria-label": "refresh" });
  const draw = () => {
    const list = shown[Number(which.value)], entry = list[Number(slider.value)];
    host.replaceChildren();
    if (!entry) { host.append(el("p", { class: "note", text: "no pictures of this run" })); words.textContent = ""; return; }
    words.textContent = `refresh ${entry.refresh}, step ${entry.step}` + (entry.generation === null ? "" : `, generation ${entry.generation}`);
    host.append(el("h3", { text: "Challenges" }), el("p", { class: "note", text: "Green: the labels. Blue and orange: what the estimator says of the person's left and right." }),
      tiles(entry, entry.challenges, (c) => [`${short(c.error)} px`, c.groups.join(", ")]), el("h3", { text: "Made for them" }),
      el("p", { class: "note", text: "Synthetic samples with their labels; the number is the estimator's 3D error on them, an orange frame means filtered out." }),
      tiles(entry, entry.samples, (s) => [`${short(s.err3d)} mm`, s.passed ? "" : "filtered out"]));
  };
  const reset = () => { const n = shown[Number(which.value)].length; slider.max = Math.max(0, n - 1); slider.value = n - 1; draw(); };
  which.addEventListener("change", reset); slider.addEventListener("input", draw);
  section("pictures", "Challenges and what was made for them", "Move the slider through the refreshes.", el("div", { class: "controls" }, many ? which : null, slider, words), host);
  reset();
}
/* Figures of docs/quality.md, in the order of the table: field, title, factor. */
const QUALITY = [["fid", "FID", 1], ["fid_crop", "FID of the person", 1], ["kid", "KID, thousandths", 1000], ["kid_crop", "KID of the person, thousandths", 1000], ["alignment", "labels off by, % of the box", 1], ["undetected", "nobody detected, %", 100], ["pass_rate", "passed the filter, %", 100], ["err3d", "Err3D, mm", 1], ["apd", "diversity of poses and views, mm", 1], ["apd_body", "diversity of poses, mm", 1], ["density", "density", 1], ["coverage", "real poses covered, %", 100]];
const enginesOf = (run) => [...new Set(run.quality.map((q) => q.engine))].map((name) => [name, run.quality.filter((q) => q.engine === name)]);
function quality() {
  const shown = RUNS.filter((run) => run.quality.length);
  if (!shown.length) return;
  const known = QUALITY.filter(([key]) => shown.some((run) => run.quality.some((q) => isNumber(q[key]))));
  const rows = shown.flatMap((run) => enginesOf(run).map(([engine, all]) => [label(run, engine), all.at(-1)]));
  const table = el("div", { class: "scroll" }, el("table", { id: "quality-table" }, el("thead", {}, el("tr", {}, ...["engine", "generation", "pictures", ...known.map((k) => k[1])].map((t) => el("th", { text: t })))),
    el("tbody", {}, ...rows.map(([name, q]) => el("tr", {}, ...[name, q.generation, q.looked_at, ...known.map(([key, , by]) => (isNumber(q[key]) ? short(by * q[key]) : "-"))].map((t) => el("td", { text: t })))))));
  const notes = [...new Set(shown.flatMap((run) => enginesOf(run).flatMap(([engine, all]) => (all.at(-1).notes || []).map((n) => `${label(run, engine)}: ${n}`))))];
  const figures = known.map(([key, title, by]) => {
    let i = 0;
    const series = shown.flatMap((run) => enginesOf(run).map(([engine, all]) => ({ name: label(run, engine), colour: COLOURS[i++ % COLOURS.length], points: all.map((q) => [q.generation, isNumber(q[key]) ? by * q[key] : null]) })));
    return lines(title[0].toUpperCase() + title.slice(1), series, { x: "generation" });
  });
  section("quality", "How good are the pictures?", "Each engine's pictures beside those of the mined people. Lower is better for FID, KID and what the labels are off by. The table holds the last generation.", table, ...notes.map((n) => el("p", { class: "note", text: n })), grid(figures));
}
function diet() {
  const figures = RUNS.flatMap((run) => [
    stacked(label(run, "Sources of the batches, %"), trained(run).map((r) => ({ x: r.epoch, values: Object.fromEntries(Object.entries(r.fractions || {}).map(([k, v]) => [k, 100 * v])) })), { x: "epoch" }),
    stacked(label(run, "Seconds of each stage of a refresh"), refreshesOf(run).map((r) => ({ x: r.refresh, values: r.stages || {} })), { x: "refresh" })]);
  const each = (name, f) => RUNS.map((run, i) => ({ name: label(run, name), colour: COLOURS[i], points: trained(run).map((r) => [r.epoch, f(r)]) }));
  figures.push(lines("Age of the pool's samples in the batches, generations", each("mean", (r) => r.pool_age), { x: "epoch", zero: true }), lines("Pictures a second in training", each("pictures", (r) => (r.pictures ? r.pictures / r.seconds.train : null)), { x: "epoch", zero: true }),
    lines("Training that waited for data, %", each("waited", (r) => (100 * (r.seconds.wait || 0)) / r.seconds.train), { x: "epoch", zero: true }));
  section("diet", "What it was trained on, and the time it took", "", grid(figures));
}
function settings() {
  section("settings", "Settings", "", ...RUNS.map((run) => el("details", {}, el("summary", { text: `${run.name}: config.yaml` }), el("pre", { text: run.config || "not found" }))));
}
document.getElementById("loading").remove();
for (const part of [findings, benchmarks, loop, quality, failures, galleries, diet, settings]) {
  try { part(); } catch (error) { main.append(el("p", { class: "note", text: `This part could not be drawn (${error.message}).` })); console.error(error); }
}
document.documentElement.dataset.drawn = String(Math.round(performance.now()));
