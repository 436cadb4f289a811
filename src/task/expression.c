/* SPDX-License-Identifier: Apache-2.0 */
/* Python's eval for arithmetic: operator precedence with two stacks (Dijkstra's shunting yard).
 *
 *     level   operators        binds                    A sign is pushed without reducing what stands before it: 2**-1.
 *       1     + -              left                     A sign reduces only what binds tighter: -2**2 is -(2**2).
 *       2     * / //           left
 *       3     + - (signs)      a prefix
 *       4     **               right
 *
 * A value waits on its stack only while it has a number of its own, and a row has at most 32 numbers; so the stacks are
 * fixed, nothing recurses, and grading allocates nothing. */
#include "sower/expression.h"

#include "task_impl.h"

#include "sower/alloc.h"

#include <math.h>
#include <string.h>

enum { MAX_VALUES = SOW_MAX_NUMBERS + 1, MAX_OPERATORS = 2900 + 2 * 200, MAX_SIGNS = 2900, MAX_DEPTH = 200 };

/* One byte each, as they lie on the stack. */
typedef enum op {
    OP_OPEN,
    OP_ADD,
    OP_SUBTRACT,
    OP_MULTIPLY,
    OP_DIVIDE,
    OP_FLOOR,
    OP_PLUS,
    OP_MINUS,
    OP_POWER,
    N_OPS
} op;

static const unsigned char level_of[N_OPS] = {
    [OP_OPEN] = 0,  [OP_ADD] = 1,  [OP_SUBTRACT] = 1, [OP_MULTIPLY] = 2, [OP_DIVIDE] = 2,
    [OP_FLOOR] = 2, [OP_PLUS] = 3, [OP_MINUS] = 3,    [OP_POWER] = 4,
};

/* An int or a float of Python. */
typedef struct value {
    bool is_real;
    double real;
    sow_integer integer;
} value;

struct sow_expression {
    int n_values, n_operators, depth, signs;
    value values[MAX_VALUES];
    unsigned char operators[MAX_OPERATORS];
};

sow_code sow_expression_create(sow_expression **out)
{
    return SOW_ALLOC(out, 1);
}

void sow_expression_destroy(sow_expression **expression)
{
    SOW_FREE(expression);
}

static bool to_real(const value *v, double *out)
{
    if (!v->is_real)
        return sow_integer_to_real(&v->integer, out);
    *out = v->real;
    return true;
}

/* CPython's float_floor_div: a // b for doubles. */
static double floor_divide(double a, double b)
{
    double rest = fmod(a, b), quotient = (a - rest) / b;
    if (rest != 0 && (b < 0) != (rest < 0))
        quotient -= 1;
    if (quotient == 0)
        return copysign(0, a / b);
    double down = floor(quotient);
    return quotient - down > 0.5 ? down + 1 : down;
}

static bool is_odd(double x)
{
    return fmod(fabs(x), 2) == 1;
}

/* CPython's float_pow: false for a zero to a negative power, for overflow, and where the answer would be complex. */
static bool power(double a, double b, double *out)
{
    if (b == 0 || a == 1) {
        *out = 1;
    } else if (isnan(a) || isnan(b)) {
        *out = (double)NAN;
    } else if (isinf(b)) {
        double size = fabs(a);
        *out = size == 1 ? 1 : (b > 0) == (size > 1) ? (double)INFINITY : 0;
    } else if (isinf(a)) {
        double size = b > 0 ? (double)INFINITY : 0;
        *out = is_odd(b) ? copysign(size, a) : size;
    } else if (a == 0) {
        *out = is_odd(b) ? a : 0;
        return b > 0;
    } else {
        double size = sow_power(fabs(a), b);
        *out = a < 0 && is_odd(b) ? -size : size;
        return isfinite(size) && (a > 0 || b == floor(b));
    }
    return true;
}

static bool apply_real(op o, double a, double b, double *out)
{
    switch (o) {
    case OP_ADD:
        *out = a + b;
        return true;
    case OP_SUBTRACT:
        *out = a - b;
        return true;
    case OP_MULTIPLY:
        *out = a * b;
        return true;
    case OP_DIVIDE:
        *out = a / b;
        return b != 0;
    case OP_FLOOR:
        *out = floor_divide(a, b);
        return b != 0;
    default:
        return power(a, b, out);
    }
}

/* a = a o b for two ints; the answer may be a float. */
static bool apply_integer(op o, value *a, const value *b)
{
    const sow_integer *x = &a->integer, *y = &b->integer;
    switch (o) {
    case OP_ADD:
        return sow_integer_add(x, y, &a->integer);
    case OP_SUBTRACT:
        return sow_integer_subtract(x, y, &a->integer);
    case OP_MULTIPLY:
        return sow_integer_multiply(x, y, &a->integer);
    case OP_FLOOR:
        return sow_integer_floor_divide(x, y, &a->integer);
    case OP_DIVIDE:
        a->is_real = true;
        return sow_integer_true_divide(x, y, &a->real);
    default:
        if (y->sign >= 0) {
            sow_integer base = *x;
            return sow_integer_power(&base, y, &a->integer);
        }
        double base = 0, exponent = 0;
        a->is_real = true;
        return sow_integer_to_real(x, &base) && sow_integer_to_real(y, &exponent) && power(base, exponent, &a->real);
    }
}

/* Takes the operator on top of its stack and what it needs from the other. */
static bool reduce(sow_expression *e)
{
    op o = (op)e->operators[--e->n_operators];
    value *top = &e->values[e->n_values - 1];
    if (o == OP_PLUS || o == OP_MINUS) {
        if (o == OP_MINUS) {
            top->real = -top->real;
            top->integer.sign = -top->integer.sign;
        }
        return true;
    }
    value *left = top - 1;
    e->n_values--;
    if (!left->is_real && !top->is_real)
        return apply_integer(o, left, top);
    double a = 0, b = 0;
    if (!to_real(left, &a) || !to_real(top, &b))
        return false;
    left->is_real = true;
    return apply_real(o, a, b, &left->real);
}

/* A binary operator: first what stands before it and binds at least as tightly. */
static bool push_binary(sow_expression *e, op o)
{
    int least = o == OP_POWER ? level_of[o] + 1 : level_of[o];
    while (e->n_operators > 0 && level_of[e->operators[e->n_operators - 1]] >= least)
        if (!reduce(e))
            return false;
    if (e->n_operators == MAX_OPERATORS)
        return false;
    e->operators[e->n_operators++] = (unsigned char)o;
    e->signs = 0;
    return true;
}

static bool push_prefix(sow_expression *e, op o)
{
    bool is_open = o == OP_OPEN;
    if (e->n_operators == MAX_OPERATORS || (is_open ? ++e->depth > MAX_DEPTH : ++e->signs > MAX_SIGNS))
        return false;
    e->operators[e->n_operators++] = (unsigned char)o;
    return true;
}

static bool close_parenthesis(sow_expression *e)
{
    while (e->n_operators > 0 && e->operators[e->n_operators - 1] != OP_OPEN)
        if (!reduce(e))
            return false;
    if (e->n_operators == 0)
        return false;
    e->n_operators--;
    e->depth--;
    return true;
}

static size_t digits_at(const char *text, size_t bytes)
{
    size_t n = 0;
    while (n < bytes && text[n] >= '0' && text[n] <= '9')
        n++;
    return n;
}

static bool push_number(sow_expression *e, const char *digits, size_t n)
{
    if (e->n_values == MAX_VALUES)
        return false;
    value *v = &e->values[e->n_values++];
    v->is_real = false;
    v->real = 0;
    return sow_integer_parse(digits, n, &v->integer) && (n == 1 || digits[0] != '0' || v->integer.sign == 0);
}

/* The binary operator at the text, 1 or 2 bytes; N_OPS if there is none. */
static op operator_at(const char *text, size_t bytes, size_t *n)
{
    bool is_double = bytes > 1 && text[1] == text[0] && (text[0] == '*' || text[0] == '/');
    *n = is_double ? 2 : 1;
    switch (text[0]) {
    case '+':
        return OP_ADD;
    case '-':
        return OP_SUBTRACT;
    case '*':
        return is_double ? OP_POWER : OP_MULTIPLY;
    case '/':
        return is_double ? OP_FLOOR : OP_DIVIDE;
    default:
        return N_OPS;
    }
}

/* One token where a number is expected: a number, a sign, an opening parenthesis. */
static bool take_operand(sow_expression *e, const char *text, size_t bytes, size_t *n, bool *is_operand_next)
{
    *n = digits_at(text, bytes);
    if (*n > 0) {
        *is_operand_next = false;
        return push_number(e, text, *n);
    }
    *n = 1;
    if (*text != '(' && *text != '+' && *text != '-')
        return false;
    return push_prefix(e, *text == '(' ? OP_OPEN : *text == '+' ? OP_PLUS : OP_MINUS);
}

/* One token behind a number: an operator or a closing parenthesis. */
static bool take_operator(sow_expression *e, const char *text, size_t bytes, size_t *n, bool *is_operand_next)
{
    *n = 1;
    if (*text == ')')
        return close_parenthesis(e);
    op o = operator_at(text, bytes, n);
    *is_operand_next = true;
    return o != N_OPS && push_binary(e, o);
}

bool sow_expression_value(sow_expression *e, const char *text, size_t bytes, double *out)
{
    bool is_operand_next = true;
    e->n_values = e->n_operators = e->depth = e->signs = 0;
    if (bytes > 0 && text[bytes - 1] == '\n')
        bytes--;
    for (size_t i = 0, n; i < bytes; i += n) {
        n = 1;
        if (text[i] == ' ')
            continue;
        bool is_fine = is_operand_next ? take_operand(e, text + i, bytes - i, &n, &is_operand_next)
                                       : take_operator(e, text + i, bytes - i, &n, &is_operand_next);
        if (!is_fine)
            return false;
    }
    if (is_operand_next)
        return false;
    while (e->n_operators > 0)
        if (e->operators[e->n_operators - 1] == OP_OPEN || !reduce(e))
            return false;
    double result = 0;
    if (!to_real(&e->values[0], &result))
        return false;
    *out = result;
    return true;
}

/* The run of digits as an int; false above 2^63 - 1, which no row has. */
static bool read_number(const char *digits, size_t n, int64_t *out)
{
    int64_t number = 0;
    for (size_t i = 0; i < n; i++)
        if (__builtin_mul_overflow(number, 10, &number) || __builtin_add_overflow(number, digits[i] - '0', &number))
            return false;
    *out = number;
    return true;
}

bool sow_expression_uses(const char *text, size_t bytes, const int64_t *numbers, int64_t n)
{
    bool is_used[SOW_MAX_NUMBERS] = {false};
    int64_t found = 0;
    SOW_ASSERT(n <= SOW_MAX_NUMBERS);
    for (size_t i = 0; i < bytes;) {
        int64_t number = 0, j = 0;
        size_t digits = digits_at(text + i, bytes - i);
        if (digits > 0) {
            if (!read_number(text + i, digits, &number))
                return false;
            while (j < n && (is_used[j] || numbers[j] != number))
                j++;
            if (j == n)
                return false;
            is_used[j] = true;
            found++;
        }
        i += digits + (digits == 0);
    }
    return found == n;
}
