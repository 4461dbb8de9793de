// A beam search as a tree: time from left to right, one line for each hypothesis that ended.

const COLUMN = 84;
const LINE = 24;
const FATES = { winner: "★", ended: "●", worse: "×", length: "▢", kept: "" };

/** Children of every node, best first, and which nodes the winner came through. */
function family(nodes) {
  const children = nodes.map(() => []);
  const roots = [];
  nodes.forEach((node, at) => (node.parent === null ? roots : children[node.parent]).push(at));
  const wins = nodes.map(() => false);
  for (let at = nodes.findIndex(({ fate }) => fate === "winner"); at >= 0 && at !== null; at = nodes[at].parent) wins[at] = true;
  for (const list of [roots, ...children]) list.sort((a, b) => wins[b] - wins[a] || nodes[b].score - nodes[a].score);
  return { children, roots, wins };
}

/** The line of every node: a chain of best children shares one, the first below its parent's that is free all along. */
function treePlan(nodes) {
  const { children, roots, wins } = family(nodes);
  const lines = nodes.map(() => 0);
  const taken = [];
  const waiting = [...roots].reverse().map((at) => [at, 0]);
  while (waiting.length) {
    const [start, above] = waiting.pop();
    const chain = [start];
    while (children[chain.at(-1)].length) chain.push(children[chain.at(-1)][0]);
    const steps = [...chain.map((at) => nodes[at].step), nodes[start].step - 1];
    let line = above;
    while (steps.some((step) => taken[line]?.has(step))) line++;
    taken[line] ??= new Set();
    for (const step of steps) taken[line].add(step);
    for (const at of chain) lines[at] = line;
    for (const at of chain) for (const other of children[at].slice(1).reverse()) waiting.push([other, line + 1]);
  }
  return { lines, wins, count: taken.length };
}

/** Draw the tree of the search. */
function drawSearch() {
  byId("search").hidden = !seen.search;
  if (!seen.search) return;
  const { nodes, beams, length_penalty } = seen.search;
  const { lines, wins, count } = treePlan(nodes);
  const x = (node) => 14 + node.step * COLUMN;
  const y = (at) => 16 + lines[at] * LINE;
  const path = (node, at) => {
    const [fromX, fromY] = [x(nodes[node.parent]) + 8, y(node.parent)];
    const middle = fromX + 10;
    return draw("path", { class: wins[at] ? "branch wins" : "branch", d: `M${fromX} ${fromY}C${middle} ${fromY} ${middle} ${y(at)} ${x(node) - 4} ${y(at)}` });
  };
  const width = Math.max(...nodes.map(x)) + COLUMN + 20;
  const branches = nodes.flatMap((node, at) => (node.parent === null ? [] : [path(node, at)]));
  const marks = nodes.map((node, at) => {
    const lines = [`${shown(node.label)}  ${number(node.score)}`, say(`fate_${node.fate}`)];
    const label = `${fit(shown(node.label), COLUMN - 34)} ${FATES[node.fate]}`;
    return draw("text", { x: x(node), y: y(at), class: `fate-${node.fate}${wins[at] ? " wins" : ""}`, onpointermove: (event) => showTip(event, ...lines), onpointerleave: hideTip }, label);
  });
  const picture = draw("svg", { class: "tree", width, height: count * LINE + 16, role: "img", "aria-label": say("search_picture", { count: nodes.length }) }, branches, marks);
  byId("search-note").textContent = say("search_note", { beams, penalty: length_penalty });
  const legend = make("p", { class: "note" }, ["winner", "ended", "worse", "length"].map((fate) => `${FATES[fate]} ${say(`fate_${fate}`)}`).join("   "));
  byId("search-content").replaceChildren(make("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": say("search") }, picture), legend, searchTable(nodes));
}

/** The hypotheses that ended, as a table: for those who cannot see the tree. */
function searchTable(nodes) {
  const textOf = (at) => {
    const labels = [];
    for (let node = nodes[at]; node; node = node.parent === null ? null : nodes[node.parent]) labels.unshift(shown(node.label));
    return labels.join(" ");
  };
  const ended = nodes.map((_, at) => at).filter((at) => nodes[at].fate !== "kept");
  ended.sort((a, b) => (nodes[b].fate === "winner") - (nodes[a].fate === "winner") || nodes[b].score - nodes[a].score);
  const rows = ended.map((at) => make("tr", {}, make("th", { scope: "row" }, token(textOf(at))), make("td", {}, number(nodes[at].score)), make("td", {}, say(`fate_${nodes[at].fate}`))));
  const heads = [say("hypothesis"), say("score"), say("fate")].map((text) => make("th", { scope: "col" }, text));
  return make("details", {}, make("summary", {}, say("as_table")), make("div", { class: "scroll tall" }, make("table", { class: "plain" }, make("thead", {}, make("tr", {}, heads)), make("tbody", {}, rows))));
}
