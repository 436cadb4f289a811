/* SPDX-License-Identifier: Apache-2.0 */
/* x to the power y with the same bits on every machine.
 *
 * A grade reaches the ledger, so it may not hang on which pow the C library chose for this CPU.  Here y log x and its
 * exponential are computed in double-double (an unevaluated sum of two doubles, about 106 bits; Dekker 1971) from IEEE
 * operations only, and rounded once: as good as always the nearest double. */
#include "task_impl.h"

#include <math.h>

typedef struct pair {
    double high, low;
} pair;

static const pair log_2 = {0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56};

/* |a| >= |b|, or a is 0. */
static pair normalize(double a, double b)
{
    double high = a + b;
    return (pair){high, b - (high - a)};
}

static pair two_sum(double a, double b)
{
    double high = a + b, part = high - a;
    return (pair){high, (a - (high - part)) + (b - part)};
}

static pair add(pair a, pair b)
{
    pair high = two_sum(a.high, b.high), low = two_sum(a.low, b.low);
    pair sum = normalize(high.high, high.low + low.high);
    return normalize(sum.high, sum.low + low.low);
}

static pair multiply(pair a, pair b)
{
    double high = a.high * b.high;
    double low = fma(a.high, b.high, -high);
    return normalize(high, low + (a.high * b.low + a.low * b.high));
}

static pair divide(pair a, pair b)
{
    double q1 = a.high / b.high;
    pair rest = add(a, multiply((pair){-q1, 0}, b));
    double q2 = rest.high / b.high;
    rest = add(rest, multiply((pair){-q2, 0}, b));
    return add(normalize(q1, q2), (pair){rest.high / b.high, 0});
}

/* log x = e log 2 + 2 (s + s^3/3 + s^5/5 + ...), x = m 2^e with m in [sqrt(1/2), sqrt(2)), s = (m - 1)/(m + 1):
 * s^2 < 0.0295, so 22 terms reach 2^-110. */
static pair logarithm(double x)
{
    int e = 0;
    double m = frexp(x, &e);
    if (m < 0x1.6a09e667f3bcdp-1) {
        m *= 2;
        e--;
    }
    pair s = divide(two_sum(m, -1), two_sum(m, 1)), square = multiply(s, s), sum = {0, 0};
    for (int k = 22; k >= 0; k--)
        sum = add(multiply(sum, square), divide((pair){1, 0}, (pair){2 * k + 1, 0}));
    sum = multiply(sum, s);
    return add(multiply(log_2, (pair){e, 0}), (pair){2 * sum.high, 2 * sum.low});
}

/* exp t = 2^k exp(t - k log 2), by Taylor: |rest| <= 0.35, so 28 terms reach 2^-110. */
static double exponential(pair t)
{
    double k = floor(t.high / log_2.high + 0.5);
    pair rest = add(t, multiply(log_2, (pair){-k, 0})), sum = {1, 0};
    for (int n = 28; n >= 1; n--)
        sum = add((pair){1, 0}, divide(multiply(sum, rest), (pair){n, 0}));
    return ldexp(sum.high, (int)k);
}

double sow_power(double x, double y)
{
    pair log_x = logarithm(x);
    double size = log_x.high * y;
    if (size > 800)
        return (double)INFINITY;
    if (size < -800)
        return 0;
    return exponential(multiply(log_x, (pair){y, 0}));
}
