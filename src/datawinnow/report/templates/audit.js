"use strict";
(() => {
  const data = JSON.parse(document.getElementById("issues-data").textContent);
  const rows = data.issue.length;
  const PAGE = 50;
  const byId = (id) => document.getElementById(id);
  const element = (name, text, attributes) => {
    const made = document.createElement(name);
    if (text !== undefined && text !== null) made.textContent = text;
    for (const key in attributes || {}) made.setAttribute(key, attributes[key]);
    return made;
  };
  const label = (i) => (data.label[i] < 0 ? "" : data.classes[data.label[i]]);
  const suggested = (i) => (data.suggested[i] < 0 ? "" : data.classes[data.suggested[i]]);
  const exampleOf = (i) => data.split[i] + " " + data.example[i];
  // what stands for an example in texts to search; made once
  const words = Array.from({ length: rows }, (_, i) =>
    [data.id[i], data.evidence[i], label(i), suggested(i), data.text[i] || ""].join("\n").toLowerCase());

  const decided = new Map(); // example -> action
  const state = { sort: null, descending: true, page: 0, group: null, shown: [] };
  const COLUMNS = {
    example: { title: "example", key: (i) => data.split[i] * 1e12 + data.example[i] },
    issue: { title: "issue", key: (i) => data.issue[i] },
    label: { title: "label", key: (i) => label(i) },
    severity: { title: "severity", key: (i) => data.severity[i] },
    evidence: { title: "evidence", key: (i) => data.evidence[i] },
    action: { title: "action", key: (i) => actionOf(i) },
  };

  function actionOf(i) {
    const action = decided.get(exampleOf(i));
    return action === undefined ? data.actions[data.action[i]] : action;
  }

  function filtered() {
    const kind = byId("kind").value, split = byId("split").value, name = byId("class").value;
    const action = byId("action").value, least = Number(byId("least").value) || 0;
    const text = byId("text").value.toLowerCase();
    const kept = [];
    for (let i = 0; i < rows; i++) {
      if (kind !== "" && data.issue[i] !== Number(kind)) continue;
      if (split !== "" && data.split[i] !== Number(split)) continue;
      if (name !== "" && data.label[i] !== Number(name) && data.suggested[i] !== Number(name)) continue;
      if (state.group !== null && data.group[i] !== state.group) continue;
      if (data.severity[i] < least) continue;
      if (action !== "" && actionOf(i).split(":")[0] !== action) continue;
      if (text !== "" && !words[i].includes(text)) continue;
      kept.push(i);
    }
    return kept;
  }

  function sorted(kept) {
    if (state.sort === null) return kept;
    const keys = new Map(kept.map((i) => [i, COLUMNS[state.sort].key(i)]));
    const turn = state.descending ? -1 : 1;
    return kept.sort((a, b) => {
      const first = keys.get(a), second = keys.get(b);
      return first < second ? -turn : first > second ? turn : a - b;
    });
  }

  function refresh() {
    state.shown = sorted(filtered());
    state.page = Math.min(state.page, Math.max(0, Math.ceil(state.shown.length / PAGE) - 1));
    draw();
  }

  function draw() {
    const first = state.page * PAGE;
    const body = byId("rows");
    body.replaceChildren(...state.shown.slice(first, first + PAGE).map(rowOf));
    const last = Math.min(state.shown.length, first + PAGE);
    byId("place").textContent = state.shown.length
      ? `${(first + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${state.shown.length.toLocaleString("en")}`
      : "no rows";
    byId("previous").disabled = first === 0;
    byId("next").disabled = last >= state.shown.length;
    byId("first").disabled = first === 0;
    byId("last").disabled = last >= state.shown.length;
    for (const heading of document.querySelectorAll("#issues thead th")) {
      const active = heading.dataset.column === state.sort;
      heading.setAttribute("aria-sort", active ? (state.descending ? "descending" : "ascending") : "none");
    }
    byId("ungroup").hidden = state.group === null;
    byId("ungroup").textContent = `group ${state.group}: show all groups`;
    const own = decisions(false).length, all = decisions(true).length;
    byId("export-decided").textContent = `Export my decisions (${own.toLocaleString("en")})`;
    byId("export-decided").disabled = own === 0;
    byId("export-all").textContent = `Export with the suggestions (${all.toLocaleString("en")})`;
    byId("export-all").disabled = all === 0;
  }

  function rowOf(i) {
    const row = element("tr", null, { "data-row": i });
    const shown = element("td", null, { class: "shown" });
    const picture = data.image[i] < 0 ? null : data.images[data.image[i]];
    if (picture) {
      shown.append(element("img", null, { src: "data:image/webp;base64," + picture, alt: label(i), loading: "lazy",
        class: data.small ? "small" : "" }));
    }
    if (data.text[i]) shown.append(element("blockquote", data.text[i], { dir: "auto" }));
    shown.append(element("span", data.id[i], { class: "muted" }));
    if (data.splits[data.split[i]] !== "train") shown.append(element("span", ` (${data.splits[data.split[i]]})`, { class: "muted" }));
    const issue = element("td", data.kinds[data.issue[i]].replaceAll("_", " "));
    if (data.group[i] !== null) {
      const group = element("button", `group ${data.group[i]}`, { type: "button", class: "link" });
      group.addEventListener("click", () => { state.group = data.group[i]; state.page = 0; refresh(); });
      issue.append(element("br"), group);
    }
    const names = element("td", label(i));
    if (suggested(i)) {
      names.append(element("br"), element("span", "\u2192 ", { class: "muted" }), element("b", suggested(i)));
      if (data.probability[i] !== null) names.append(element("span", ` ${Math.round(100 * data.probability[i])}%`, { class: "muted" }));
    }
    const severity = element("td", data.severity[i].toFixed(2));
    const evidence = element("td", data.evidence[i], { class: "evidence" });
    const chosen = element("td");
    chosen.append(choice(i));
    row.append(shown, issue, names, severity, evidence, chosen);
    return row;
  }

  function choice(i) {
    const select = element("select", null, { "aria-label": `action for ${data.id[i]}` });
    const current = actionOf(i);
    const options = new Set(["look", "keep", "drop", current, data.actions[data.action[i]]]);
    if (data.splits[data.split[i]] === "train") for (const name of data.classes) options.add("relabel:" + name);
    for (const option of options) {
      const made = element("option", option, { value: option });
      made.selected = option === current;
      select.append(made);
    }
    if (decided.has(exampleOf(i))) select.classList.add("decided");
    select.addEventListener("change", () => { decided.set(exampleOf(i), select.value); draw(); });
    return select;
  }

  // An example has one decision, also with several rows: the user's, else the strongest suggestion.
  const STRENGTH = { drop: 3, relabel: 2, keep: 1, look: 0 };
  function decisions(withSuggestions) {
    const actions = new Map();
    for (let i = 0; i < rows; i++) {
      const example = exampleOf(i);
      if (data.splits[data.split[i]] !== "train") continue; // the test split is kept whole
      let action = decided.get(example);
      if (action === undefined) {
        if (!withSuggestions) continue;
        action = data.actions[data.action[i]];
        const before = actions.get(example);
        if (before && STRENGTH[before.action.split(":")[0]] >= STRENGTH[action.split(":")[0]]) continue;
      }
      if (action === "look") continue; // decides nothing
      actions.set(example, { id: data.id[i], action });
    }
    return [...actions.values()];
  }

  function csv(withSuggestions) {
    const quoted = (text) => (/[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text);
    const lines = decisions(withSuggestions).map((d) => [d.id, "train", d.action, data.fingerprint].map(quoted).join(","));
    return ["id,split,action,fingerprint", ...lines].join("\n") + "\n";
  }

  function download(withSuggestions) {
    const link = element("a", null, { download: "decisions.csv" });
    link.href = URL.createObjectURL(new Blob([csv(withSuggestions)], { type: "text/csv" }));
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  const fill = (id, names, values) => {
    for (let k = 0; k < names.length; k++) byId(id).append(element("option", names[k], { value: values[k] }));
  };
  const present = [...new Set(data.issue)].sort((a, b) => a - b);
  fill("kind", present.map((k) => data.kinds[k].replaceAll("_", " ")), present);
  fill("split", data.splits, data.splits.map((_, k) => k));
  fill("class", data.classes, data.classes.map((_, k) => k));
  const heading = byId("headings");
  for (const name in COLUMNS) {
    const cell = element("th", null, { scope: "col", "data-column": name });
    const button = element("button", COLUMNS[name].title, { type: "button" });
    button.addEventListener("click", () => {
      state.descending = state.sort === name ? !state.descending : name === "severity";
      state.sort = name;
      state.page = 0;
      refresh();
    });
    cell.append(button);
    heading.append(cell);
  }
  for (const id of ["kind", "split", "class", "action", "least", "text"]) {
    byId(id).addEventListener("input", () => { state.page = 0; refresh(); });
  }
  for (const button of document.querySelectorAll("button[data-kind]")) {
    button.addEventListener("click", () => {
      byId("kind").value = String(data.kinds.indexOf(button.dataset.kind));
      state.group = null;
      state.page = 0;
      refresh();
      byId("issues").scrollIntoView();
    });
  }
  byId("ungroup").addEventListener("click", () => { state.group = null; state.page = 0; refresh(); });
  byId("previous").addEventListener("click", () => { state.page -= 1; draw(); });
  byId("next").addEventListener("click", () => { state.page += 1; draw(); });
  byId("first").addEventListener("click", () => { state.page = 0; draw(); });
  byId("last").addEventListener("click", () => { state.page = Math.ceil(state.shown.length / PAGE) - 1; draw(); });
  byId("set").addEventListener("click", () => {
    for (const i of state.shown) {
      if (data.splits[data.split[i]] === "train") decided.set(exampleOf(i), byId("all").value);
    }
    refresh();
  });
  byId("export-decided").addEventListener("click", () => download(false));
  byId("export-all").addEventListener("click", () => download(true));
  byId("audit-table").hidden = false;
  refresh();
})();
