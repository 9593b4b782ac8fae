const $ = id => document.getElementById(id);
const time = s => s == null ? "–" : s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;
const size = b => b == null ? "–" : b < 1e6 ? `${(b / 1e3).toFixed(0)} kB` : b < 1e9 ? `${(b / 1e6).toFixed(1)} MB` : `${(b / 1e9).toFixed(2)} GB`;
function privacy(s) {
  if (s.epsilon_max == null && s.private_steps_left == null) return "no limit (epsilon_max is inf)";
  const limit = s.epsilon_max == null ? "" : `epsilon_max ${s.epsilon_max}`;
  if (s.private_steps_left == null) return `${limit}; the steps left are known when a run begins`;
  const left = `${s.private_steps_left} steps left, the run needs ${s.private_steps_needed}`;
  return limit ? `${limit}; ${left}` : left;
}
let answered = null;
async function refresh() {
  try {
    const response = await fetch("status.json");
    if (!response.ok) throw new Error(await response.text());
    const s = await response.json();
    answered = new Date(); document.body.className = "";
    $("name").textContent = s.name; document.title = s.rounds ? `${s.rounds_done}/${s.rounds} ${s.name}` : s.name;
    const waits = s.connected && s.last_round_seconds > 30 ? "; waiting for the server or for other sites" : "";
    $("line").textContent = s.note + waits; $("line").className = s.connected ? "up" : s.server_answers ? "waiting" : "down";
    $("bar").hidden = !s.rounds; $("bar").max = s.rounds || 1; $("bar").value = s.rounds_done;
    const facts = [
      ["run", s.run ?? "none"], ["round", s.rounds ? `${s.rounds_done} of ${s.rounds}` : "–"], ["last round", s.last_round_seconds == null ? "–" : `${time(s.last_round_seconds)} ago`],
      ["server", s.server], ["sent", s.run ? size(s.bytes_sent) : "–"], ["received", s.run ? size(s.bytes_received) : "–"],
      ["differential privacy", privacy(s)],
      ["certificate", s.certificate_days_left == null ? "none" : s.certificate_days_left < 0 ? "expired" : `valid for ${Math.floor(s.certificate_days_left)} days`],
      ["free disk space", size(s.disk_free_bytes)],
    ];
    $("facts").replaceChildren();
    for (const [name, value] of facts) {
      const row = $("facts").insertRow();
      row.insertCell().textContent = name;
      const cell = row.insertCell(); cell.textContent = value; cell.className = "note";
    }
  } catch (error) {
    document.body.className = "stale";
    const since = answered ? ` since ${answered.toLocaleTimeString()}; the numbers below are from then` : "";
    $("line").textContent = `no answer from the site${since} (${error.message})`; $("line").className = "down";
  }
}
refresh(); setInterval(refresh, 2000);
