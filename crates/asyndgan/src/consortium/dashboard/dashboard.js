const $ = id => document.getElementById(id);
const time = s => s == null ? "unknown" : s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;
const size = b => b < 1e6 ? `${(b / 1e3).toFixed(0)} kB` : b < 1e9 ? `${(b / 1e6).toFixed(1)} MB` : `${(b / 1e9).toFixed(2)} GB`;
function cell(row, text, kind) { const td = row.insertCell(); td.textContent = text; if (kind) td.className = kind; }
const element = (name, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};
const label_of = v => v && Math.abs(v) < .001 ? Number(v.toPrecision(6)).toExponential() : Number(v.toPrecision(6)).toString();
// Round numbers from low to high, about four of them.
function ticks(low, high, step_min) {
  const rough = Math.max((high - low) / 4, step_min), power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(power * [1, 2, 5, 10].find(f => power * f >= rough * .999), step_min), all = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) all.push(n * step);
  return all.map(value => [value, label_of(value)]);
}
const LEFT = 84, RIGHT = 580, TOP = 14, BOTTOM = 188;
function plot(svg, points, lines, first, last) {
  svg.replaceChildren();
  const values = points.flatMap(p => lines.map(([key]) => p[key]));
  const high = Math.max(...values, 0), low = Math.min(...values, 0);
  const x = round => LEFT + (RIGHT - LEFT) * (round - first) / (last - first || 1), y = v => BOTTOM - (BOTTOM - TOP) * (v - low) / (high - low || 1);
  const label = (x, y, text, anchor) => { const made = element("text", { x, y, "text-anchor": anchor }); made.textContent = text; svg.append(made); };
  for (const [value, text] of ticks(low, high, 1e-9)) {
    svg.append(element("line", { x1: LEFT, x2: RIGHT, y1: y(value), y2: y(value), stroke: "#dde3ea" }));
    label(LEFT - 6, y(value) + 4, text, "end");
  }
  for (const [value, text] of ticks(first, last, 1)) label(x(value), 210, text, "middle");
  for (const [key, colour] of lines) {
    const at = points.map(p => `${x(p.round)},${y(p[key])}`).join(" ");
    if (points.length > 1) svg.append(element("polyline", { points: at, fill: "none", stroke: colour, "stroke-width": 1.5 }));
    else svg.append(element("circle", { cx: x(points[0].round), cy: y(points[0][key]), r: 3, fill: colour }));
  }
}
let answered = null;
// The site whose curve is shown, by number; null for the mean.
let chosen = null;
async function act(run, action) {
  const reason = prompt(`${action} the run ${run}? The reason for the record:`, "");
  if (reason === null) return;
  const headers = { "content-type": "application/json", "asyndgan-request": "1" };
  const response = await fetch("runs", { method: "POST", headers, body: JSON.stringify({ run, action, reason }) });
  $("answer").textContent = response.ok ? `${run}: ${action} requested` : await response.text();
  refresh();
}
function button(parent, text, kind, work) {
  const made = document.createElement("button");
  made.textContent = text; made.className = kind; made.onclick = work; parent.append(made);
}
async function refresh() {
  try {
    const response = await fetch("status.json");
    if (!response.ok) throw new Error(await response.text());
    const s = await response.json();
    answered = new Date(); document.body.className = "";
    $("name").textContent = s.name; document.title = s.rounds ? `${s.rounds_done}/${s.rounds} ${s.name}` : s.name;
    $("alarm").textContent = s.alarm ?? ""; $("alarm").hidden = s.alarm == null;
    $("bar").max = s.rounds || 1; $("bar").value = s.rounds_done; $("bar").hidden = !s.rounds;
    const rounds = `${s.rounds_done} of ${s.rounds} rounds`;
    $("line").textContent = s.state == "idle" ? "" : s.state == "running" ? `${rounds}, running for ${time(s.seconds)} since the last start, time left: ${time(s.seconds_left)}` : `${rounds}, ${time(s.seconds)} since the last start; ${s.end}`;
    $("line").className = s.state == "failed" ? "down" : "";
    $("queue").textContent = s.queue ?? "";
    const long = s.waits_for.filter(w => w.seconds > 10 || !w.connected);
    $("waits").textContent = !long.length ? "" : `waiting for ${long.map(w => `${w.site} (${time(w.seconds)}${w.connected ? "" : `, ${w.absence ?? "not connected"}`})`).join(", ")}`;
    $("of-runs").hidden = !s.runs.length && !$("answer").textContent;
    $("runs").replaceChildren();
    for (const run of s.runs) {
      const row = $("runs").insertRow();
      cell(row, run.name); cell(row, run.reason ? `${run.state}: ${run.reason}` : run.state, "note"); cell(row, run.rounds ? `${run.rounds[0]} of ${run.rounds[1]} rounds` : "–");
      const buttons = row.insertCell();
      for (const action of run.actions) button(buttons, action, "", () => act(run.name, action));
    }
    $("of-sites").hidden = !s.sites.length;
    $("sites").replaceChildren();
    for (const [number, site] of s.sites.entries()) {
      const row = $("sites").insertRow(), dot = s.state != "running" ? "" : site.connected ? "up" : "down";
      cell(row, "", dot); button(row.cells[0], site.name, "site", () => { chosen = chosen === number ? null : number; refresh(); }); cell(row, site.rounds); cell(row, size(site.bytes_to)); cell(row, size(site.bytes_from));
      cell(row, site.feedback_norm?.toPrecision(3) ?? "");
      cell(row, site.discriminator_loss?.toFixed(3) ?? "", "loss"); cell(row, site.generator_loss?.toFixed(3) ?? "", "loss"); cell(row, site.note, "note");
      // Below the row, where the page is narrow.
      const below = $("sites").insertRow(); below.className = "below"; cell(below, site.note, "note"); below.cells[0].colSpan = 5;
    }
    const first = Math.min(...s.points.slice(0, 1).map(p => p.round), ...s.losses.slice(0, 1).map(p => p.round), s.rounds_done);
    $("of-norms").hidden = !s.points.length; $("of-losses").hidden = !s.losses.length; $("of-picture").hidden = !s.rounds_done;
    if (chosen !== null && !s.sites[chosen]) chosen = null;
    $("whose").textContent = chosen === null ? "mean over sites (choose a site above for its own)" : s.sites[chosen].name;
    const norms = chosen === null ? s.points : await (await fetch(`curve/${chosen}`)).json();
    $("norms").replaceChildren();
    if (norms.length) plot($("norms"), norms, [["feedback_norm", "#2462a8"]], first, s.rounds_done);
    if (s.losses.length) plot($("losses"), s.losses, [["discriminator", "#2462a8"], ["generator", "#c2571a"]], first, s.rounds_done);
    if (s.rounds_done) $("picture").src = `latest.png?${s.rounds_done}`;
  } catch (error) {
    document.body.className = "stale";
    const since = answered ? ` since ${answered.toLocaleTimeString()}; the numbers below are from then` : "";
    $("line").textContent = `no answer from the server${since} (${error.message})`; $("line").className = "down";
  }
}
$("picture").onload = () => $("of-picture").hidden = false;
$("picture").onerror = () => $("of-picture").hidden = true;
refresh(); setInterval(refresh, 2000);
