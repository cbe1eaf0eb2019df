// The figures of bnnbench/statistics again, for what is chosen in the browser; the formulas and
// their sources stand there, and the tests compare the two.

const LEVEL = 0.95, FEWEST = 3, RESAMPLES = 1999, LEAST = 199, DRAWN = 200000, ALIKE = 1e-6;
const ALPHA = 0.05, DECIMALS = 9, EXACT = 100;
const drawnBefore = new Map();

const sum = values => values.reduce((total, value) => total + value, 0);
const mean = values => sum(values) / values.length;
const least = values => values.reduce((a, b) => Math.min(a, b));
const greatest = values => values.reduce((a, b) => Math.max(a, b));
const increasing = values => Float64Array.from(values).sort();

function deviation(values) {
  if (values.length < 2) return null;
  const middle = mean(values);
  return Math.sqrt(sum(values.map(value => (value - middle) ** 2)) / (values.length - 1));
}

/** The quantile with linear interpolation between the nearest two values. */
function quantile(values, share) {
  const sorted = increasing(values), place = share * (sorted.length - 1);
  const low = Math.floor(place), high = Math.ceil(place);
  return sorted[low] + (place - low) * (sorted[high] - sorted[low]);
}

/** The mean of what is left without the lowest and the highest quarter, rounded down. */
function middleMean(values) {
  const cut = Math.floor(values.length / 4);
  return mean(Array.from(increasing(values).slice(cut, values.length - cut)));
}

/** The bootstrap-t interval of the mean, [low, high]; null with fewer than three values. */
function interval(values) {
  const n = values.length;
  if (n < FEWEST) return null;
  const sorted = Array.from(increasing(values)), middle = mean(sorted);
  const spread = deviation(sorted);
  if (spread <= ALIKE * ALIKE * Math.max(1, Math.abs(middle))) return [middle, middle];
  const t = studentized(sorted.map(value => (value - middle) / spread));
  const half = spread * t[Math.ceil(LEVEL * t.length) - 1];
  return [middle - half, middle + half];
}

/** |t*| of the resamples of values with mean 0 and deviation 1, in order. */
function studentized(standard) {
  const n = standard.length, places = drawn(n), found = [];
  for (let first = 0; first < places.length; first += n) {
    let total = 0, squares = 0;
    for (let draw = first; draw < first + n; draw++) {
      const value = standard[places[draw]];
      total += value;
      squares += value * value;
    }
    const middle = total / n;
    const spread = Math.sqrt(Math.max(squares / n - middle * middle, 0) * n / (n - 1));
    if (spread > ALIKE) found.push(Math.abs(middle / spread));
  }
  return increasing(found);
}

/** Which of n values is drawn, for each draw of each resample: numbers of SplitMix64. */
function drawn(n) {
  if (!drawnBefore.has(n)) {
    const resamples = Math.min(RESAMPLES, Math.max(LEAST, Math.floor(DRAWN / n)));
    const places = Uint32Array.from({length: resamples * n}, (_, draw) =>
      Math.floor(splitMix(BigInt(draw + 1)) * n / 2 ** 32));
    drawnBefore.set(n, places);
  }
  return drawnBefore.get(n);
}

/** The upper half of a number of SplitMix64. */
function splitMix(step) {
  let x = BigInt.asUintN(64, step * 0x9E3779B97F4A7C15n);
  x = BigInt.asUintN(64, (x ^ (x >> 30n)) * 0xBF58476D1CE4E5B9n);
  x = BigInt.asUintN(64, (x ^ (x >> 27n)) * 0x94D049BB133111EBn);
  return Number((x ^ (x >> 31n)) >> 32n);
}

/** The ranks from 1; equal values share the mean of their ranks. */
function midranks(values) {
  return values.map(value => {
    const below = values.filter(other => other < value).length;
    const equal = values.filter(other => other === value).length;
    return below + (equal + 1) / 2;
  });
}

/** Rounds halves to the even neighbour, as numpy does. */
function rounded(value) {
  const scaled = value * 10 ** DECIMALS, whole = Math.floor(scaled), rest = scaled - whole;
  const up = rest > 0.5 || (rest === 0.5 && whole % 2 !== 0);
  return (whole + (up ? 1 : 0)) / 10 ** DECIMALS;
}

/** Wilcoxon's two-sided p of paired differences; 1 where no difference is left. */
function signedRank(differences) {
  const kept = differences.map(rounded).filter(each => each !== 0);
  const ranks = midranks(kept.map(Math.abs));
  const plus = sum(ranks.filter((_, place) => kept[place] > 0));
  const least = Math.min(plus, sum(ranks) - plus);
  const tail = kept.length <= EXACT ? exactTail : normalTail;
  return Math.min(1, 2 * tail(ranks, least));
}

/** P(W <= most), W summed over doubled ranks, which are whole. */
function exactTail(ranks, most) {
  let chances = Float64Array.of(1);
  for (const rank of ranks.map(each => Math.round(2 * each)).sort((a, b) => a - b)) {
    const longer = new Float64Array(chances.length + rank);
    chances.forEach((chance, place) => {
      longer[place] += chance / 2;
      longer[place + rank] += chance / 2;
    });
    chances = longer;
  }
  return sum(Array.from(chances.slice(0, Math.round(2 * most) + 1)));
}

function normalTail(ranks, most) {
  const z = (most - sum(ranks) / 2) / Math.sqrt(sum(ranks.map(rank => rank * rank)) / 4);
  return complementary(-z / Math.SQRT2) / 2;
}

/** erfc(x) of x >= 0: by the series of erf where x is small, else by the continued fraction. */
function complementary(x) {
  if (x < 2.5) {
    let term = x, total = x;
    for (let n = 1; Math.abs(term) > 1e-17 * total; n++) {
      term *= -x * x / n;
      total += term / (2 * n + 1);
    }
    return 1 - 2 / Math.sqrt(Math.PI) * total;
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (x + fraction);
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + fraction);
}

/** P-values corrected by Holm's procedure. */
function holm(given) {
  const order = given.map((_, place) => place).sort((a, b) => given[a] - given[b]);
  const found = [];
  let floor = 0;
  order.forEach((place, done) => {
    floor = Math.max(floor, (given.length - done) * given[place]);
    found[place] = Math.min(1, floor);
  });
  return found;
}

const smallest = n => Math.min(1, 2 ** (1 - n));

/** Holm's p of each list of differences, or in words why it has none. */
function corrected(family) {
  const able = family.filter(each => smallest(each.length) <= ALPHA);
  const adjusted = holm(able.map(signedRank));
  const best = holm(able.map(each => smallest(each.length)));
  return family.map(each => {
    const place = able.indexOf(each);
    if (place >= 0 && best[place] <= ALPHA) return adjusted[place];
    const others = place >= 0 && able.length > 1 ? ` of ${able.length} comparisons` : "";
    return `n = ${each.length} cannot reach ${ALPHA}${others}`;
  });
}
