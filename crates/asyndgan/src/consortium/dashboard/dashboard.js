const $ = id => document.getElementById(id);
const time = s => s == null ? "unknown" : s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;
const size = b => b < 1e6 ? `${(b / 1e3).toFixed(0)} kB` : b < 1e9 ? `${(b / 1e6).toFixed(1)} MB` : `${(b / 1e9).toFixed(2)} GB`;
function cell(row, text, kind) { const td = row.insertCell(); td.textContent = text; if (kind) td.className = kind; }
function plot(svg, all, lines) {
  svg.replaceChildren();
  const points = all.filter(p => lines.every(([key]) => p[key] != null));
  if (points.length < 2) return;
  const values = points.flatMap(p => lines.map(([key]) => p[key]));
  const top = Math.max(...values, 0), low = Math.min(...values, 0), y = v => 200 - 185 * (v - low) / (top - low || 1);
  const last = points[points.length - 1].round, first = points[0].round;
  for (const [key, colour] of lines) {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.setAttribute("points", points.map(p => `${30 + 560 * (p.round - first) / (last - first || 1)},${y(p[key])}`).join(" "));
    line.setAttribute("fill", "none"); line.setAttribute("stroke", colour); line.setAttribute("stroke-width", "1.5");
    svg.append(line);
  }
  const ticks = [0, .25, .5, .75, 1];
  for (const f of ticks) {
    const grid = document.createElementNS("http://www.w3.org/2000/svg", "line");
    for (const [name, value] of [["x1", 30], ["x2", 590], ["y1", 200 - 185 * f], ["y2", 200 - 185 * f], ["stroke", "#dde3ea"]]) grid.setAttribute(name, value);
    svg.prepend(grid);
  }
  const across = ticks.map(f => [30 + 530 * f, 217, `${f ? "" : "round "}${Math.round(first + f * (last - first))}`]);
  const up = ticks.map(f => [2, 203 - 185 * f, (low + f * (top - low)).toPrecision(2)]);
  for (const [x, at, text] of [...up, ...across]) {
    const label = document.createElementNS("http://www.w3.org/2000/svg", "text");
    label.setAttribute("x", x); label.setAttribute("y", at); label.textContent = text; svg.append(label);
  }
}
async function refresh() {
  try {
    const s = await (await fetch("status.json")).json();
    $("name").textContent = s.name; document.title = s.rounds ? `${s.rounds_done}/${s.rounds} ${s.name}` : s.name;
    $("alarm").textContent = s.alarm ?? ""; $("alarm").hidden = s.alarm == null;
    $("bar").max = s.rounds || 1; $("bar").value = s.rounds_done;
    $("line").textContent = !s.rounds ? "" : s.finished ? `finished: ${s.rounds} rounds` : `round ${s.rounds_done} of ${s.rounds}, running for ${time(s.seconds)}, time left: ${time(s.seconds_left)}`;
    const long = s.waits_for.filter(w => w.seconds > 10);
    $("waits").textContent = s.finished || !long.length ? "" : `waiting for ${long.map(w => `${w.site} (${time(w.seconds)})`).join(", ")}`;
    $("sites").replaceChildren();
    for (const site of s.sites) {
      const row = $("sites").insertRow();
      cell(row, site.name, site.connected ? "up" : "down"); cell(row, site.rounds); cell(row, size(site.bytes_to)); cell(row, size(site.bytes_from));
      cell(row, site.feedback_norm?.toPrecision(3) ?? "");
      cell(row, site.discriminator_loss?.toFixed(3) ?? ""); cell(row, site.generator_loss?.toFixed(3) ?? ""); cell(row, site.note, "note");
    }
    plot($("norms"), s.points, [["feedback_norm", "#2462a8"]]);
    $("losses").hidden = !s.points.some(p => p.discriminator != null);
    plot($("plot"), s.points, [["discriminator", "#2462a8"], ["generator", "#c2571a"]]);
    $("picture").src = `latest.png?${s.rounds_done}`;
  } catch (error) { $("line").textContent = `the server does not answer: ${error}`; }
}
refresh(); setInterval(refresh, 2000);
