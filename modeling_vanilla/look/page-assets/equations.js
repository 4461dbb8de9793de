// Equations of the paper (Vaswani et al. 2017) as MathML.

const MATHML = "http://www.w3.org/1998/Math/MathML";
const math = (tag, ...children) => filled(document.createElementNS(MATHML, tag), {}, children.map(atom));

/** A letter, a number or a sign, by what it is. */
function atom(part) {
  if (typeof part !== "string") return part;
  const tag = /^[\d.,−]+$/.test(part) ? "mn" : /^[\p{L}]+$/u.test(part) ? "mi" : "mo";
  const node = document.createElementNS(MATHML, tag);
  node.append(part);
  return node;
}

const together = (...parts) => math("mrow", ...parts);
const below = (base, index) => math("msub", base, index);
const above = (base, index) => math("msup", base, index);
const both = (base, low, high) => math("msubsup", base, low, high);
const over = (top, bottom) => math("mfrac", top, bottom);
const root = (inside) => math("msqrt", inside);
const sum = (index) => math("munder", "∑", index);
const exponential = (power) => above("e", power);

function equation(...parts) {
  const node = math("math", ...parts);
  node.setAttribute("display", "block");
  return make("div", { class: "equation" }, node);
}


const ij = () => together("i", "j");
const q = () => below("q", "i");
const k = () => below("k", "j");
const keyWidth = () => root(below("d", "k"));

const EQUATIONS = {
  attention: () => together("Attention", together("(", "Q", ",", "K", ",", "V", ")"), "=", "softmax", together("(", over(together("Q", above("K", "T")), keyWidth()), ")"), "V"),
  project: () => [q(), "=", below("x", "i"), above("W", "Q"), ",", math("mspace"), k(), "=", below("y", "j"), above("W", "K")],
  product: () => [q(), "·", k(), "=", sum("d"), below("q", together("i", "d")), below("k", together("j", "d"))],
  scaled: () => [below("s", ij()), "=", over(together(q(), "·", k()), keyWidth())],
  plain: () => [below("s", ij()), "=", q(), "·", k()],
  factor: () => [below("s", ij()), "=", "c", together("(", q(), "·", k(), ")")],
  biased: () => [below("s", ij()), "←", below("s", ij()), "+", below("b", ij())],
  masked: () => [below("s", ij()), "←", "−", "∞"],
  softmax: () => [below("α", ij()), "=", over(exponential(below("s", ij())), together(sum("n"), exponential(below("s", together("i", "n")))))],
  value: () => [below("head", "i"), "=", sum("j"), below("α", ij()), below("v", "j")],
  temperature: () => [below("p", "n"), "=", over(exponential(together(below("z", "n"), "/", "τ")), together(sum("m"), exponential(together(below("z", "m"), "/", "τ"))))],
};
