"""The statistics against other programs, brute force, hand-made cases, and simulated studies."""

from __future__ import annotations

import itertools
import math
import statistics
import subprocess
import sys

import numpy as np
import pytest
import scikit_posthocs
from scipy import stats

from bnnbench.errors import UsageError
from bnnbench.statistics import intervals, signedranks
from bnnbench.statistics.intervals import Interval, interval
from bnnbench.statistics.paired import Cannot, compare, holm
from bnnbench.statistics.profiles import END, profiles
from bnnbench.statistics.published import gap
from bnnbench.statistics.ranks import (
    Ranking,
    Refusal,
    chi_square_tail,
    range_quantile,
    ranking,
)
from bnnbench.statistics.signedranks import midranks, signed_rank, smallest
from bnnbench.statistics.targets import Arrival, Arrivals, first_at, kaplan_meier, target

from .conftest import ROOT


def tied(random, n, step=0.25):
    """Differences on a grid: many are equal, some are 0."""
    return (random.integers(-6, 7, n) * step).tolist()


# intervals


def every_t(values):
    """|t*| of all n^n resamples in plain floats; those that are all alike have none."""
    mean = statistics.fmean(values)
    for drawn in itertools.product(values, repeat=len(values)):
        if len(set(drawn)) > 1:
            deviation = statistics.stdev(drawn)
            yield abs(statistics.fmean(drawn) - mean) / deviation


@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize("seed", range(5))
def test_interval_is_that_of_all_resamples(n, seed):
    """Its half width over s lies between the 93 % and 97 % quantiles of |t*| over all resamples."""
    values = np.random.default_rng(seed).normal(90, 2, n).tolist()

    low, high = interval(values)

    t, s = sorted(every_t(values)), statistics.stdev(values)
    least, most = np.quantile(t, [0.93, 0.97])
    assert statistics.fmean(values) == pytest.approx((low + high) / 2)
    assert least - 1e-9 <= (high - low) / 2 / s <= most + 1e-9


def test_draws_are_those_of_splitmix():
    """The first numbers of SplitMix64 from 0, their upper halves; every value is drawn as often."""
    assert [0xE220A839, 0x6E789E6A, 0x06C45D18] == intervals._bits(3).tolist()
    counts = intervals._counts(20)
    assert (1999, 20) == counts.shape
    assert {20.0} == set(counts.sum(axis=1))
    assert stats.chisquare(counts.sum(axis=0)).pvalue > 0.01


@pytest.mark.parametrize("n", [3, 7, 30, 2500])
def test_interval_moves_and_stretches_with_the_values(n):
    """The same values in another order have the same interval, a x + b that of x, moved along."""
    random = np.random.default_rng(n)
    values = random.normal(size=n)

    low, high = interval(values.tolist())

    assert interval(random.permutation(values).tolist()) == (low, high)
    assert interval((80 + 3 * values).tolist()) == pytest.approx((80 + 3 * low, 80 + 3 * high))


def test_interval_of_few_or_equal_values():
    """Fewer than three values have none, equal ones one without width, however large they are."""
    assert [None, None, None] == [interval(values) for values in ([], [1.0], [1.0, 2.0])]
    assert Interval(0.1, 0.1) == pytest.approx(interval([0.1] * 10))
    assert interval([1e9 + 0.1] * 7).low == interval([1e9 + 0.1] * 7).high
    low, high = interval([97.0, 97.0, 97.0, 97.2])
    assert low < 97.05 < high


def test_interval_of_many_values_is_the_normal_one():
    """Of 5,000 values the half width is 1.96 s / sqrt(n), within 15 % for its fewer resamples."""
    values = np.random.default_rng(0).normal(size=5_000)

    low, high = interval(values.tolist())

    assert (high - low) / 2 == pytest.approx(1.96 * values.std(ddof=1) / 5_000**0.5, rel=0.15)


DRAW = {
    "normal": (lambda random, n: random.normal(size=n), 0.0),
    "exponential": (lambda random, n: random.exponential(size=n), 1.0),
    "log-normal": (lambda random, n: random.lognormal(size=n), math.exp(0.5)),
}
TABLE = [line.split() for line in intervals.__doc__.splitlines() if line.count("%") == 4]
STATED = [
    (line[0], n, float(share) / 100)
    for line in TABLE
    if line[0] in DRAW
    for n, share in zip((3, 5, 10, 20), line[1::2], strict=True)
]


@pytest.mark.parametrize(("name", "n", "stated"), STATED)
def test_coverage_is_as_stated(name, n, stated):
    """The share of 1,000 samples whose interval holds the mean, within 3.5 binomial deviations."""
    random, (draw, mean) = np.random.default_rng(n), DRAW[name]

    found = [interval(draw(random, n).tolist()) for _ in range(1_000)]

    share = statistics.fmean(low <= mean <= high for low, high in found)
    assert abs(share - stated) <= 3.5 * (stated * (1 - stated) / 1_000) ** 0.5


def test_the_coverage_of_all_is_stated():
    """Three kinds of values at four n; percentile intervals of three values miss in a quarter."""
    assert 12 == len(STATED)
    assert ["normal,", "percentile", "75.1", "%"] == TABLE[-1][:4]


def test_the_document_says_the_same():
    """docs/statistics.md has the coverage of the module, and the seeds that a family takes."""
    text = (ROOT / "docs" / "statistics.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    by_name = {row[0]: row[1:] for row in rows if row}

    for line in TABLE:
        numbers = line[-8::2]
        assert [f"{number} %" for number in numbers] == by_name[" ".join(line[:-8])]
    for count, seeds in zip(by_name["comparisons"], by_name["seeds, at least"], strict=True):
        for comparisons in {int(number) for number in count.split(" to ")}:
            clearest = [[1.0] * int(seeds)] * comparisons
            assert not any(isinstance(each.p, Cannot) for each in compare(clearest))
            fewer = [[1.0] * (int(seeds) - 1)] * comparisons
            assert all(isinstance(each.p, Cannot) for each in compare(fewer))


# Wilcoxon's signed-rank test


def brute_p(differences):
    """P of every assignment of signs whose smaller sum of ranks is as small, by enumeration."""
    kept = [d for d in differences if d]
    ranks = stats.rankdata([abs(d) for d in kept])
    total = sum(ranks)

    def least(signs):
        plus = sum(r for r, sign in zip(ranks, signs, strict=True) if sign)
        return min(plus, total - plus)

    observed = least([d > 0 for d in kept])
    signs = list(itertools.product((0, 1), repeat=len(kept)))
    return sum(least(each) <= observed for each in signs) / len(signs)


@pytest.mark.parametrize("seed", range(30))
def test_signed_rank_is_that_of_all_signs(seed):
    """With ties and zeros p is the share of the 2^n signs that are as extreme."""
    random = np.random.default_rng(seed)
    differences = tied(random, int(random.integers(1, 10)))

    found = signed_rank(differences)

    assert brute_p(differences) == pytest.approx(found.p)


@pytest.mark.parametrize("n", [1, 5, 6, 13, 25, 50, 100])
def test_signed_rank_is_scipys(n):
    """Without ties, sums of ranks and the exact p are scipy's."""
    differences = np.random.default_rng(n).normal(0.2, 1, n)

    found = signed_rank(differences.tolist())

    theirs = stats.wilcoxon(differences, method="exact")
    assert (theirs.statistic, theirs.pvalue) == pytest.approx((min(found[:2]), found.p))
    assert n * (n + 1) / 2 == pytest.approx(found.plus + found.minus)


@pytest.mark.parametrize("n", [150, 400])
def test_signed_rank_of_many_is_scipys(n):
    """Above 100 differences it is the normal approximation with the variance of tied ranks."""
    differences = tied(np.random.default_rng(n), n)

    found = signed_rank(differences)

    theirs = stats.wilcoxon(differences, method="approx", correction=False)
    assert (theirs.statistic, theirs.pvalue) == pytest.approx((min(found[:2]), found.p))


def test_equal_percents_are_ties():
    """Differences that are equal but for rounding share a rank; 0 but for rounding is no sign."""
    hundredths = [0.1 + 0.2, 0.3, -0.3, 1e-13]

    assert (4.0, 2.0, 1.0) == signed_rank(hundredths)
    assert (0.0, 0.0, 1.0) == signed_rank([0.0, 0.0])


@pytest.mark.parametrize("n", range(1, 12))
def test_smallest_p(n):
    """It is reached where all signs are alike, and by five pairs it is above 0.05."""
    assert smallest(n) == pytest.approx(signed_rank([1.0 + k for k in range(n)]).p)
    assert (n <= 5) == (smallest(n) > 0.05)


@pytest.mark.parametrize("seed", range(5))
def test_midranks_are_scipys(seed):
    """Ranks with ties, of numbers and of infinities."""
    values = np.random.default_rng(seed).integers(0, 5, 12).astype(float)
    values[0] = -math.inf

    assert stats.rankdata(values).tolist() == midranks(values).tolist()


# families


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_the_closed_test(seed):
    """A corrected p is the largest, over all sets that it is in, of their size times their least p.

    That is the closed testing procedure with Bonferroni's inequality.
    """
    random = np.random.default_rng(seed)
    given = np.round(random.uniform(0, 0.2, 6), 2).tolist()

    expected = [
        max(
            min(1.0, len(chosen) * min(given[k] for k in chosen))
            for size in range(1, 7)
            for chosen in itertools.combinations(range(6), size)
            if place in chosen
        )
        for place in range(6)
    ]

    assert expected == pytest.approx(holm(given))
    assert [] == holm([])


@pytest.mark.parametrize("seed", range(20))
def test_cannot_is_what_no_outcome_reaches(seed):
    """There is a p where the family of clearest outcomes has one of at most 0.05, and only there.

    Comparisons of at most five pairs have none and are not counted.
    """
    random = np.random.default_rng(seed)
    counts = random.integers(1, 10, random.integers(1, 7)).tolist()
    clearest = holm([2.0 ** (1 - n) for n in counts if n > 5])

    found = compare([random.normal(size=n).tolist() for n in counts])

    best = iter(clearest)
    expected = [n > 5 and next(best) <= 0.05 for n in counts]
    assert expected == [not isinstance(each.p, Cannot) for each in found]
    assert {(each.p.n, each.p.family) for each in found if isinstance(each.p, Cannot)} == {
        (n, len(clearest) if n > 5 else 0)
        for n, able in zip(counts, expected, strict=True)
        if not able
    }
    assert not any(each.significant for each in found if isinstance(each.p, Cannot))


@pytest.mark.parametrize("seed", range(10))
def test_effect_and_share_of_better_pairs(seed):
    """r is the share of the rank sum for minus that against; ties are half of a better pair."""
    differences = tied(np.random.default_rng(seed), 12)
    kept = [d for d in differences if d]
    ranks = stats.rankdata([abs(d) for d in kept])

    (found,) = compare([differences])

    signed = sum(r if d > 0 else -r for r, d in zip(ranks, kept, strict=True))
    assert signed / sum(ranks) == pytest.approx(found.effect)
    won = sum(d > 0 for d in differences) + differences.count(0) / 2
    assert won / 12 == pytest.approx(found.better)
    assert (statistics.fmean(differences), statistics.stdev(differences)) == pytest.approx(
        (found.mean, found.sd)
    )
    assert interval(differences) == found.interval


def test_equal_runs_and_no_runs():
    """Pairs that are all equal have no effect and p = 1; a comparison without a pair is refused."""
    (same,) = compare([[0.0] * 8])

    assert (1.0, 0.0, 0.5, 0.0) == (same.p, same.effect, same.better, same.mean)
    assert (None, None) == ((one := compare([[1.0]])[0]).sd, one.interval)
    assert [] == compare([])
    with pytest.raises(UsageError, match="needs a pair, got none; leave it out"):
        compare([[1.0], []])


def simulated(random, methods, n, better=0.0, images=None):
    """A study's differences from its reference: seeds are easy or hard for all, noise is skewed.

    With ``images`` accuracies are whole numbers of them, so that many are equal.
    """
    seeds = random.normal(0, 0.5, n)
    scores = 90 + seeds + random.gumbel(0, 1, (methods + 1, n))
    scores[1] += better
    if images:
        scores = np.round(scores * images / 100) / images * 100
    return (scores[1:] - scores[0]).tolist()


@pytest.fixture
def without_intervals(monkeypatch):
    """No claim depends on an interval, and they take most of the time."""
    monkeypatch.setattr("bnnbench.statistics.paired.interval", lambda differences: None)


@pytest.mark.parametrize("images", [None, 100])
def test_a_study_without_a_difference_rarely_names_one(images, without_intervals):
    """Of 1,000 studies of five methods and eight seeds at most 5 % do, but for binomial error.

    Three deviations of 5 % in 1,000 are 2.1 %.
    """
    random = np.random.default_rng(0)

    named = sum(
        any(each.significant for each in compare(simulated(random, 5, 8, images=images)))
        for _ in range(1_000)
    )

    assert 0 < named <= 1_000 * (0.05 + 3 * (0.05 * 0.95 / 1_000) ** 0.5)


def test_a_true_difference_is_found(without_intervals):
    """A method that is six deviations better is named in nearly all studies, with its sign."""
    random = np.random.default_rng(1)

    found = [compare(simulated(random, 5, 8, better=8.0))[0] for _ in range(200)]

    clear = [each for each in found if each.significant and each.mean > 0 and each.effect == 1]
    assert len(clear) >= 190


# ranks


@pytest.mark.parametrize("seed", range(12))
def test_friedman_is_scipys(seed):
    """Statistic, p and mean ranks of random scores, with ties."""
    random = np.random.default_rng(seed)
    methods, tasks = int(random.integers(3, 8)), int(random.integers(4, 12))
    scores = random.integers(0, 6, (methods, tasks)).astype(float)

    found = ranking(scores)

    theirs = stats.friedmanchisquare(*scores)
    assert (theirs.statistic, theirs.pvalue) == pytest.approx((found.statistic, found.p))
    expected = stats.rankdata(-scores, axis=0).mean(axis=1)
    assert expected.tolist() == pytest.approx(list(found.ranks))
    assert tasks == found.tasks


@pytest.mark.parametrize("seed", range(12))
def test_groups_are_nemenyis(seed):
    """Two methods share a group just where scikit-posthocs finds p >= 0.05 for their mean ranks."""
    random = np.random.default_rng(seed)
    methods, tasks = int(random.integers(3, 9)), int(random.integers(6, 12))
    scores = random.normal(size=(methods, tasks)) + 0.8 * random.permutation(methods)[:, None]

    found = ranking(scores)

    p = scikit_posthocs.posthoc_nemenyi_friedman(-scores.T).to_numpy()
    assert found.p <= 0.05
    together = {pair for group in found.groups for pair in itertools.permutations(group, 2)}
    alike = {pair for pair in itertools.permutations(range(methods), 2) if p[pair] >= 0.05}
    assert alike == together
    assert set(range(methods)) == set(itertools.chain(*found.groups))
    sets = [set(group) for group in found.groups]
    assert not any(a < b for a in sets for b in sets)
    for group in found.groups:
        assert list(group) == sorted(group, key=lambda method: found.ranks[method])


def test_the_example_of_demsar():
    """Mean ranks 3.143, 2, 2.893 and 1.964 over 14 data sets: chi-square 9.28; CD 1.25."""
    random, wanted = np.random.default_rng(0), np.array([44.0, 28.0, 40.5, 27.5])
    scores = None
    while scores is None:  # find 14 rankings of four, one of them with a tie, with these sums
        rows = np.array([random.permutation(4) + 1.0 for _ in range(13)])
        left = wanted - rows.sum(axis=0)
        if sorted(left) in ([1.0, 2.5, 2.5, 4.0], [1.0, 2.0, 3.5, 3.5], [1.5, 1.5, 3.0, 4.0]):
            scores = -np.vstack([rows, left]).T

    found = ranking(scores)

    assert (3.143, 2.0, 2.893, 1.964) == tuple(round(rank, 3) for rank in found.ranks)
    assert 1.25 == round(found.critical, 2)
    assert 9.28 == round(found.statistic * 69.5 / 70, 2)  # his formula has no word for the tie


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 12, 51])
def test_chi_square_is_scipys(degrees):
    """The upper tail, from 0 to far out."""
    for value in (0.0, 0.3, 2.0, 9.5, 40.0, 200.0):
        expected = stats.chi2.sf(value, degrees)
        assert expected == pytest.approx(chi_square_tail(value, degrees), rel=1e-9)


@pytest.mark.parametrize("methods", [2, 3, 5, 10, 40])
def test_range_is_scipys(methods):
    """The quantile of the studentized range with infinite degrees of freedom."""
    expected = stats.studentized_range.ppf(0.95, methods, math.inf)
    assert expected == pytest.approx(range_quantile(methods), abs=1e-5)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((2, 9), "ranks across tasks need 3 methods, there are 2"),
        ((5, 1), "ranks across tasks need 2 tasks, there are 1"),
        ((3, 2), "2 tasks cannot reach 0.05 in Friedman's test of 3 methods"),
        ((8, 2), "2 tasks cannot reach 0.05 in Friedman's test of 8 methods"),
        ((9, 2), ""),
        ((3, 3), ""),
    ],
)
def test_too_few_methods_or_tasks(shape, reason):
    """What could not be significant even if all tasks agreed is refused, in words."""
    scores = np.arange(shape[0] * shape[1]).reshape(shape)

    found = ranking(scores)

    if reason:
        assert Refusal(reason) == found
    else:
        assert isinstance(found, Ranking)
        assert found.p <= 0.05


def test_missing_scores_and_misses():
    """A score that is not known refuses the ranking; minus infinity is the last rank."""
    scores = np.array([[3.0, 3, 3, 3], [2, 2, 2, 2], [1, 1, 1, -math.inf]])
    found = ranking(scores)

    assert (1.0, 2.0, 3.0) == found.ranks
    scores[0, 0] = math.nan
    assert "some are missing" in ranking(scores).reason


def test_without_a_difference_all_are_one_group():
    """Where Friedman's p is above 0.05 nobody is told apart, also with equal scores only."""
    scores = np.random.default_rng(0).normal(size=(8, 6))
    found = ranking(scores)

    assert found.p > 0.05
    assert max(found.ranks) - min(found.ranks) > found.critical
    assert [8] == [len(group) for group in found.groups]
    assert (0.0, 1.0, ((0, 1, 2),)) == (
        (same := ranking(np.ones((3, 4)))).statistic,
        same.p,
        same.groups,
    )


# profiles


@pytest.mark.parametrize("seed", range(5))
def test_profiles_are_those_of_a_loop(seed):
    """The share of the tasks within so many times the best, and its mean from 1 to 4."""
    random = np.random.default_rng(seed)
    costs = random.exponential(size=(4, 6)) + 0.1
    costs[random.uniform(size=costs.shape) < 0.2] = math.inf
    costs[:, 0] = math.inf  # a task that nobody finishes

    found = profiles(costs)

    grid = np.linspace(1, END, 30_001)
    for mine, profile in zip(costs, found, strict=True):
        shares = []
        for times in (1.0, 1.5, 4.0):
            near = [
                math.isfinite(cost) and cost <= times * min(costs[:, task]) * (1 + 1e-12)
                for task, cost in enumerate(mine)
            ]
            shares.append(sum(near) / 6)
        assert shares == [profile.share(times + 1e-12) for times in (1.0, 1.5, 4.0)]
        assert np.mean([profile.share(t) for t in grid[::10]]) == pytest.approx(
            profile.area, abs=2e-3
        )


def test_profiles_by_hand():
    """1 and 2 times the best on two tasks: areas 1, (1 + 2/3) / 2 and 1/2 with a miss."""
    found = profiles([[1.0, 4.0], [2.0, 4.0], [1.0, math.inf]])

    assert [1.0, 5 / 6, 0.5] == pytest.approx([profile.area for profile in found])
    with pytest.raises(UsageError, match="costs must be above 0, got 0; inf is a miss"):
        profiles([[0.0, 1.0]])


# to a target


def redistributed(runs):
    """S after each arrival: a censored run's share goes to those watched longer (Efron)."""
    left = sorted(runs, key=lambda run: (run.at, not run.reached))
    masses = [1 / len(left)] * len(left)
    curve, gone = {}, 0.0
    for place, run in enumerate(left):
        if run.reached:
            gone += masses[place]
            curve[run.at] = 1 - gone
        else:
            after = range(place + 1, len(left))
            for other in after:
                masses[other] += masses[place] / len(after)
    return list(curve.items())


@pytest.mark.parametrize("seed", range(30))
def test_kaplan_meier_is_redistribution_to_the_right(seed):
    """The product of shares is what handing on the weight of censored runs gives."""
    random = np.random.default_rng(seed)
    runs = [
        Arrival(int(at), bool(reached))
        for at, reached in zip(
            random.integers(1, 8, 12), random.uniform(size=12) < 0.6, strict=True
        )
    ]

    curve = kaplan_meier(runs)

    for (at, left), (expected_at, expected) in zip(curve, redistributed(runs), strict=True):
        assert (expected_at, pytest.approx(expected)) == (at, left)


def test_median_of_runs_that_all_arrive():
    """Without misses it is the lower median; the share is 1."""
    for n in range(1, 9):
        times = np.random.default_rng(n).permutation(n) + 1.0
        arrivals = Arrivals(tuple(Arrival(at, reached=True) for at in times))
        assert statistics.median_low(times.tolist()) == arrivals.median
        assert (n, n, 1.0) == (arrivals.n, arrivals.reached, arrivals.share)


def test_misses_count():
    """Misses make the median later, and more than half of them make it none; never is a time."""
    arrived = (Arrival(2.0, reached=True), Arrival(4.0, reached=True))
    missed = Arrival(9.0, reached=False)
    never = Arrival(math.inf, reached=False)

    assert 2.0 == Arrivals(arrived).median
    assert 4.0 == Arrivals((*arrived, missed)).median
    assert 4.0 == Arrivals((*arrived, missed, never)).median
    assert None is Arrivals((*arrived, missed, never, never)).median
    assert (None, 0.0) == ((nobody := Arrivals(())).median, nobody.share)


def test_target_and_first_epoch():
    """The median of the best values; the first epoch that is as good, in the order of epochs."""
    assert 90.5 == target([90.0, 91.0])
    assert 2 == first_at({3: 99.0, 2: 90.5, 1: 90.4}, 90.5)
    assert None is first_at({1: math.nan, 2: 90.0}, 90.5)


def test_gap_to_a_published_value():
    """Points, published deviations where there are any, and whether the training was as long."""
    assert (-1.5, -3.0, True) == gap(83.0, 84.5, 0.5)
    assert (0.5, None, False) == gap(85.0, 84.5, 0.0, scale=0.5)
    assert None is gap(85.0, 84.5, None).sds


def test_few_imports():
    """Showing a study imports no distributions of scipy: that takes longer than all the rest."""
    code = (
        "import sys, bnnbench.cli.comparisons, bnnbench.comparisons;"
        " from bnnbench.statistics.ranks import ranking;"
        " ranking([[3, 3, 3], [2, 2, 2], [1, 1, 1]]);"
        " print(sorted({'scipy.stats', 'torch', 'optuna', 'pandas'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == ran.stdout.strip()


def test_tables_in_the_terminal_are_imported_without_numpy():
    """The command line starts with them, and most of its commands need no statistics."""
    code = "import sys, bnnbench.cli.tables; print('numpy' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "False" == ran.stdout.strip()


def test_exact_and_normal_meet():
    """At 100 differences the exact p and the normal one are within 2 % of each other."""
    differences = np.random.default_rng(3).normal(0.15, 1, 100)
    found = signed_rank(differences.tolist())
    ranks = midranks(np.abs(differences))

    normal = 2 * signedranks._normal_tail(ranks, min(found[:2]))

    assert normal == pytest.approx(found.p, rel=0.02)
