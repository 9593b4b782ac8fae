const $ = id => document.getElementById(id);
const time = s => s == null ? "–" : s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;
const size = b => b == null ? "–" : b < 1e6 ? `${(b / 1e3).toFixed(0)} kB` : b < 1e9 ? `${(b / 1e6).toFixed(1)} MB` : `${(b / 1e9).toFixed(2)} GB`;
async function refresh() {
  try {
    const s = await (await fetch("status.json")).json();
    $("name").textContent = s.name; document.title = `${s.name}: ${s.rounds_done}/${s.rounds}`;
    $("line").textContent = s.note; $("line").className = s.connected ? "up" : "down";
    $("bar").max = s.rounds || 1; $("bar").value = s.rounds_done;
    const facts = [
      ["run", s.run ?? "none"], ["round", `${s.rounds_done} of ${s.rounds}`], ["last round", s.last_round_seconds == null ? "–" : `${time(s.last_round_seconds)} ago`],
      ["server", s.server], ["sent", size(s.bytes_sent)], ["received", size(s.bytes_received)],
      ["privacy budget", s.private_steps_left == null ? "no limit is set: no differential privacy" : `${s.private_steps_left} steps left`],
      ["certificate", s.certificate_days_left == null ? "none" : `valid for ${Math.floor(s.certificate_days_left)} days`],
      ["free disk space", size(s.disk_free_bytes)],
    ];
    $("facts").replaceChildren();
    for (const [name, value] of facts) {
      const row = $("facts").insertRow();
      row.insertCell().textContent = name;
      const cell = row.insertCell(); cell.textContent = value; cell.className = "note";
    }
  } catch (error) { $("line").textContent = `the site does not answer: ${error}`; }
}
refresh(); setInterval(refresh, 2000);
