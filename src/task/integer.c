/* SPDX-License-Identifier: Apache-2.0 */
/* Whole numbers as Python has them, up to a bound: sign and magnitude in 32-bit limbs, lowest first.
 *
 * A completion's numbers have one limb, so the schoolbook methods cost nothing; long ones (99**98) are rare and
 * bounded, and there simple code counts more than speed. */
#include "task_impl.h"

#include <math.h>
#include <string.h>

enum { LIMIT = SOW_INTEGER_BITS / 32, LITERAL_DIGITS = 4300 /* Python's sys.int_info.default_max_str_digits */ };

static void trim(sow_integer *x)
{
    while (x->n > 0 && x->limb[x->n - 1] == 0)
        x->n--;
    if (x->n == 0)
        x->sign = 0;
}

static void copy(const sow_integer *x, sow_integer *out)
{
    if (x == out)
        return;
    out->sign = x->sign;
    out->n = x->n;
    memcpy(out->limb, x->limb, (size_t)x->n * sizeof x->limb[0]);
}

static void set_small(int sign, uint64_t value, sow_integer *out)
{
    out->sign = sign;
    out->n = 2;
    out->limb[0] = (uint32_t)value;
    out->limb[1] = (uint32_t)(value >> 32);
    trim(out);
}

static int bits_of(const sow_integer *x)
{
    return x->n == 0 ? 0 : 32 * x->n - __builtin_clz(x->limb[x->n - 1]);
}

static int compare_magnitudes(const sow_integer *a, const sow_integer *b)
{
    if (a->n != b->n)
        return a->n < b->n ? -1 : 1;
    for (int i = a->n - 1; i >= 0; i--)
        if (a->limb[i] != b->limb[i])
            return a->limb[i] < b->limb[i] ? -1 : 1;
    return 0;
}

/* x = x * factor + term. */
static bool scale_small(sow_integer *x, uint32_t factor, uint32_t term)
{
    uint64_t carry = term;
    for (int i = 0; i < x->n; i++) {
        carry += (uint64_t)x->limb[i] * factor;
        x->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry != 0)
        x->limb[x->n++] = (uint32_t)carry;
    return x->n <= LIMIT;
}

bool sow_integer_parse(const char *digits, size_t n, sow_integer *out)
{
    if (n > LITERAL_DIGITS)
        return false;
    out->n = 0;
    out->sign = 1;
    for (size_t i = 0; i < n; i++)
        if (!scale_small(out, 10, (uint32_t)(digits[i] - '0')))
            return false;
    trim(out);
    return true;
}

/* |a| + |b|. */
static void add_magnitudes(const sow_integer *a, const sow_integer *b, sow_integer *out)
{
    int n = a->n > b->n ? a->n : b->n;
    uint64_t carry = 0;
    for (int i = 0; i < n; i++) {
        carry += (i < a->n ? (uint64_t)a->limb[i] : 0) + (i < b->n ? b->limb[i] : 0);
        out->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    out->n = n;
    if (carry != 0)
        out->limb[out->n++] = 1;
}

/* |a| - |b| for |a| >= |b|. */
static void subtract_magnitudes(const sow_integer *a, const sow_integer *b, sow_integer *out)
{
    int64_t borrow = 0;
    int n = a->n;
    for (int i = 0; i < n; i++) {
        int64_t d = (int64_t)a->limb[i] - (i < b->n ? (int64_t)b->limb[i] : 0) - borrow;
        borrow = d < 0;
        out->limb[i] = (uint32_t)d;
    }
    out->n = n;
}

/* a + b where b counts with `b_sign`. */
static bool add_signed(const sow_integer *a, const sow_integer *b, int b_sign, sow_integer *out)
{
    if (b_sign == 0 || a->sign == 0) {
        int sign = a->sign == 0 ? b_sign : a->sign;
        copy(a->sign == 0 ? b : a, out);
        out->sign = sign;
        return true;
    }
    int a_sign = a->sign;
    if (a_sign == b_sign) {
        add_magnitudes(a, b, out);
        out->sign = a_sign;
    } else {
        bool is_larger = compare_magnitudes(a, b) >= 0;
        subtract_magnitudes(is_larger ? a : b, is_larger ? b : a, out);
        out->sign = is_larger ? a_sign : b_sign;
    }
    trim(out);
    return out->n <= LIMIT;
}

bool sow_integer_add(const sow_integer *a, const sow_integer *b, sow_integer *out)
{
    return add_signed(a, b, b->sign, out);
}

bool sow_integer_subtract(const sow_integer *a, const sow_integer *b, sow_integer *out)
{
    return add_signed(a, b, -b->sign, out);
}

bool sow_integer_multiply(const sow_integer *a, const sow_integer *b, sow_integer *out)
{
    sow_integer product;
    if (a->n + b->n > LIMIT + 1) /* the highest limb may turn out to be 0 */
        return false;
    memset(product.limb, 0, (size_t)(a->n + b->n) * sizeof product.limb[0]);
    for (int i = 0; i < a->n; i++) {
        uint64_t carry = 0;
        for (int j = 0; j < b->n; j++) {
            carry += (uint64_t)a->limb[i] * b->limb[j] + product.limb[i + j];
            product.limb[i + j] = (uint32_t)carry;
            carry >>= 32;
        }
        product.limb[i + b->n] = (uint32_t)carry;
    }
    product.n = a->n + b->n;
    product.sign = a->sign * b->sign;
    trim(&product);
    copy(&product, out);
    return out->n <= LIMIT;
}

/* x = 2x + bit. */
static void push_bit(sow_integer *x, uint32_t bit)
{
    uint32_t carry = bit;
    for (int i = 0; i < x->n; i++) {
        uint32_t high = x->limb[i] >> 31;
        x->limb[i] = x->limb[i] << 1 | carry;
        carry = high;
    }
    if (carry != 0)
        x->limb[x->n++] = carry;
}

/* |a| = quotient * |b| + remainder, bit by bit.  quotient may be a; remainder is no argument.  Signs are not set. */
static void divide_magnitudes(const sow_integer *a, const sow_integer *b, sow_integer *quotient, sow_integer *remainder)
{
    remainder->n = 0;
    remainder->sign = 1;
    int n = a->n;
    for (int i = n - 1; i >= 0; i--) {
        uint32_t digit = a->limb[i], result = 0;
        for (int bit = 31; bit >= 0; bit--) {
            push_bit(remainder, digit >> bit & 1);
            bool fits = compare_magnitudes(remainder, b) >= 0;
            if (fits) {
                subtract_magnitudes(remainder, b, remainder);
                trim(remainder);
                remainder->sign = 1;
            }
            result = result << 1 | (fits ? 1U : 0U);
        }
        quotient->limb[i] = result;
    }
    quotient->n = n;
    quotient->sign = 1;
    trim(quotient);
    trim(remainder);
}

bool sow_integer_floor_divide(const sow_integer *a, const sow_integer *b, sow_integer *out)
{
    sow_integer remainder;
    if (b->sign == 0)
        return false;
    int sign = a->sign * b->sign;
    divide_magnitudes(a, b, out, &remainder);
    if (sign < 0) { /* towards minus infinity */
        if (remainder.n > 0)
            (void)scale_small(out, 1, 1);
        out->sign = out->n > 0 ? -1 : 0;
    }
    return out->n <= LIMIT;
}

bool sow_integer_power(const sow_integer *a, const sow_integer *b, sow_integer *out)
{
    sow_integer base;
    bool is_odd = b->n > 0 && (b->limb[0] & 1) == 1;
    if (b->sign == 0 || bits_of(a) <= 1) { /* x**0, and powers of 0, 1, -1 */
        int sign = b->sign == 0 || a->sign == 1 ? 1 : a->sign == 0 ? 0 : is_odd ? -1 : 1;
        set_small(sign, sign == 0 ? 0 : 1, out);
        return true;
    }
    if (b->n > 1 || b->limb[0] > SOW_INTEGER_BITS)
        return false;
    uint32_t exponent = b->limb[0];
    copy(a, &base);
    set_small(1, 1, out);
    for (; exponent > 0; exponent >>= 1) {
        if ((exponent & 1) == 1 && !sow_integer_multiply(out, &base, out))
            return false;
        if (exponent > 1 && !sow_integer_multiply(&base, &base, &base))
            return false;
    }
    return true;
}

/* |x| * 2^shift, bits that fall out below tell *is_inexact. */
static void shift_magnitude(const sow_integer *x, int shift, sow_integer *out, bool *is_inexact)
{
    int limbs = shift >= 0 ? shift / 32 : -(-shift / 32), bits = shift >= 0 ? shift % 32 : -(-shift % 32);
    if (bits < 0) { /* so that the rest of the shift goes up: 0 .. 31 */
        bits += 32;
        limbs--;
    }
    int n = x->n + limbs + 1;
    SOW_ASSERT(n <= SOW_INTEGER_LIMBS);
    for (int i = 0; i < n; i++) {
        int from = i - limbs;
        uint32_t low = from - 1 >= 0 && from - 1 < x->n && bits > 0 ? x->limb[from - 1] >> (32 - bits) : 0;
        uint32_t high = from >= 0 && from < x->n ? x->limb[from] << bits : 0;
        out->limb[i] = high | low;
    }
    for (int i = 0; i < -limbs && i < x->n; i++)
        *is_inexact |= (i == -limbs - 1 && bits > 0 ? x->limb[i] << bits : x->limb[i]) != 0;
    out->n = n < 0 ? 0 : n;
    out->sign = 1;
    trim(out);
}

/* The method of CPython's long_true_divide: a quotient of 55 or 56 bits and whether anything is left, then one
 * rounding to 53 bits (fewer where the result is subnormal), half to even. */
bool sow_integer_true_divide(const sow_integer *a, const sow_integer *b, double *out)
{
    enum { MANTISSA = 53, MIN_EXPONENT = -1021, MAX_EXPONENT = 1024 };
    sow_integer shifted, quotient, remainder;
    bool is_inexact = false;
    if (b->sign == 0)
        return false;
    int difference = bits_of(a) - bits_of(b);
    if (a->sign == 0 || difference < MIN_EXPONENT - MANTISSA - 1) {
        *out = 0;
        return true;
    }
    if (difference > MAX_EXPONENT)
        return false;
    int shift = (difference > MIN_EXPONENT ? difference : MIN_EXPONENT) - MANTISSA - 2;
    shift_magnitude(a, -shift, &shifted, &is_inexact);
    divide_magnitudes(&shifted, b, &quotient, &remainder);
    is_inexact |= remainder.n > 0;

    uint64_t x = (quotient.n > 0 ? quotient.limb[0] : 0) | (quotient.n > 1 ? (uint64_t)quotient.limb[1] << 32 : 0);
    int x_bits = bits_of(&quotient);
    int extra = (x_bits > MIN_EXPONENT - shift ? x_bits : MIN_EXPONENT - shift) - MANTISSA;
    SOW_ASSERT(extra >= 1);
    uint64_t half = UINT64_C(1) << (extra - 1);
    uint64_t sticky = x | (is_inexact ? 1 : 0);
    if ((x & half) != 0 && (sticky & (3 * half - 1)) != 0)
        x += half;
    x &= ~(2 * half - 1);
    double value = ldexp((double)x, shift);
    *out = a->sign * b->sign < 0 ? -value : value;
    return isfinite(value) != 0;
}

bool sow_integer_to_real(const sow_integer *a, double *out)
{
    sow_integer one;
    set_small(1, 1, &one);
    return sow_integer_true_divide(a, &one, out);
}
