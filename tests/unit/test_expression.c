// NEEDS: task
/* SPDX-License-Identifier: Apache-2.0 */
/* The value of expressions against Python's.  Values: repr(float(eval(text))) of CPython 3.11.7 on x86-64, read back
 * exactly. */
#include "check.h"

#include "sower/expression.h"

static sow_expression *workspace;

static int setup(void **state)
{
    (void)state;
    return sow_expression_create(&workspace) == SOW_OK ? 0 : -1;
}

static int teardown(void **state)
{
    sow_expression_destroy(&workspace);
    return check_live_zero(state);
}

static bool has_value(const char *text, double *out)
{
    return sow_expression_value(workspace, text, strlen(text), out);
}

/* clang-format off */
static const struct {
    const char *text;
    double value;
} values[] = {
    {"98", 98.0},
    {"((44 + 19) + 35)", 98.0},
    {" 1+2", 3.0},
    {"1+2 \n", 3.0},
    {"7\n", 7.0},
    {"1+-+2", -1.0},
    {"--5", 5.0},
    {"-(3-5)", 2.0},
    {"2*3+4*5-6", 20.0},
    {"20/8", 2.5},
    {"7//2", 3.0},
    {"-7//2", -4.0},
    {"7//-2", -4.0},
    {"-7//-2", 3.0},
    {"(0-7)//7", -1.0},
    {"0//(0-5)", 0.0},
    {"2**3**2", 512.0},
    {"-2**2", -4.0},
    {"2**-1", 0.5},
    {"2**-2**2", 0.0625},
    {"2*-3", -6.0},
    {"2**(1/2)", 1.4142135623730951},
    {"10**-2", 0.01},
    {"99**(1/3)", 4.626065009182741},
    {"(1/3)**99", 5.820975652447867e-48},
    {"7**-300", 2.955207605012408e-254},
    {"(0-2)**3", -8.0},
    {"(0-2)**-3", -0.125},
    {"(0-2)**(4/2)", 4.0},
    {"(1/3)*3", 1.0},
    {"1/3", 0.3333333333333333},
    {"2/3-1/7", 0.5238095238095237},
    {"0**0", 1.0},
    {"00", 0.0},
    {"000+1", 1.0},
    {"-0", 0.0},
    {"(0/5)**0", 1.0},
    {"0**(1/2)", 0.0},
    {"7//(1/3)", 21.0},
    {"(0-7)//(1/3)", -22.0},
    {"(72/52)//(23/62)", 3.0},
    {"(53/26)//(2/96)", 97.0},
    {"(1/3)//7", 0.0},
    {"(0-1/3)//7", -1.0},
    {"10**20+5-10**20", 5.0},
    {"10**30//3**20", 2.8679719907924414e+20},
    {"10**400/10**399", 10.0},
    {"10**400//10**398", 100.0},
    {"(10**400+1)/(10**400)", 1.0},
    {"99**98/99**97", 99.0},
    {"2**1023", 8.98846567431158e+307},
    {"2**1024-2**970-1", 1.7976931348623157e+308},
    {"2**60/3**40", 0.09483082985705704},
    {"10**15/7", 142857142857142.84},
    {"9007199254740993*1", 9007199254740992.0},
    {"9007199254740993+1/2", 9007199254740992.0},
    {"9007199254740993/3", 3002399751580331.0},
    {"((2**53+1)*10**20+1)/(2*10**20)", 4503599627370497.0},
    {"18014398509481989/1", 1.8014398509481988e+16},
    {"1/2**1074", 5e-324},
    {"3/2**1074", 1.5e-323},
    {"1/2**1075", 0.0},
    {"3/2**1075", 1e-323},
    {"7/2**1076", 1e-323},
    {"(2**53+1)/2**1074", 4.450147717014403e-308},
    {"(2**52*2+1)/2**1075", 2.2250738585072014e-308},
    {"1/10**400", 0.0},
    {"10**300*10**10/10**305", 100000.0},
    {"(3*10**300/2)*10**300", (double)INFINITY},
    {"12*(27*59)", 19116.0},
    {"98*((89*93)*42)", 34068132.0},
    {"1000*999*998*997*996*995", 9.8508477527388e+17},
    {"(1/2)**1074", 5e-324},
    {"(1/2)**1075", 0.0},
    {"99/98*97/96-95//94", 0.02072704081632648},
    {"4**(1/2)-2", 0.0},
    {"8**(1/3)", 2.0},
    {"1000**(1/3)", 9.999999999999998},
    {"(5/7)**(11/13)", 0.7522344183038394},
    {"(99/2)**(99/2)", 7.637607696699277e+83},
    {"((1/7)**-200)", 1.0461838291314474e+169},
    {"(1-1/10**15)**10**15", 0.3681735965958863},
    {"(1+1/10**15)**10**15", 3.035035206549262},
    {"(0-1)**(10**30/1)", 1.0},
};
/* clang-format on */

static void test_value_when_python_has_one_then_its_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        double value = -1;
        if (!has_value(values[i].text, &value) || value != values[i].value)
            fail_msg("%s: got %.17g, expected %.17g", values[i].text, value, values[i].value);
    }
}

/* clang-format off */
static const char *const without_value[] = {
    "", " ", "\n", "5 5", "5(3)", "(5)(3)", "()", "3*()", "-()", "(", "5)", "(5", "5*", "*5", "/5", "**5",
    "5//", "5***5", "5///5", "5+*5", "1/0", "1//0", "0**-1", "(0/1)**-1", "1/(5-5)", "(1/3)//0", "012",
    "07*1", "(0-8)**(1/3)", "((0-8)**(1/3))**3", "10**400*(1/2)", "10**400", "10**400+1/2", "10**400/1",
    "99**99**1*99**99", "(10/1)**309", "(10/1)**400*0", "(1/2)**-1025", "2**1024-2**970", "1.0", "5.", "1e3",
    "1,2", "2^3", "5%3", "0x10", "a", "1=1", "5 = 5", "\n1 +", "(1\n+2", "1_0", "1j", "1 2 3", "+", "-", "+-",
};
/* clang-format on */

static void test_value_when_python_raises_then_none(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof without_value / sizeof without_value[0]; i++) {
        double value = -1;
        if (has_value(without_value[i], &value))
            fail_msg("'%s' has the value %.17g, expected none", without_value[i], value);
        assert_true(value == -1);
    }
}

/* n times `before`, then `middle`, then n times `behind`. */
static bool nested_value(int n, char before, const char *middle, char behind, double *out)
{
    static char text[16384];
    size_t at = 0;
    memset(text, before, (size_t)n);
    at += (size_t)n;
    at += (size_t)snprintf(text + at, sizeof text - at, "%s", middle);
    if (behind != '\0') {
        memset(text + at, behind, (size_t)n);
        at += (size_t)n;
    }
    return sow_expression_value(workspace, text, at, out);
}

static void test_value_when_nested_then_bounded_as_python(void **state)
{
    (void)state;
    double value = 0;
    assert_true(nested_value(200, '(', "7", ')', &value));
    assert_true(value == 7);
    assert_false(nested_value(201, '(', "7", ')', &value));
    assert_true(nested_value(2900, '-', "7", '\0', &value));
    assert_true(value == 7);
    assert_true(nested_value(2899, '-', "7", '\0', &value));
    assert_true(value == -7);
    assert_false(nested_value(2901, '-', "7", '\0', &value));
    assert_false(nested_value(8000, '+', "7", '\0', &value));
}

static void test_value_when_beyond_16384_bits_then_none(void **state)
{
    (void)state;
    double value = 0;
    assert_true(has_value("2**16383//2**16380", &value));
    assert_true(value == 8);
    assert_false(has_value("2**16384//2**16380", &value));
    assert_false(has_value("2**16383*2//2**16380", &value));
    assert_false(has_value("(2**16383+2**16383)//2**16380", &value));
    assert_false(has_value("(0-2**16383-2**16383)//2**16380", &value));
    assert_false(has_value("99**98**97", &value));
    assert_false(has_value("2**99999999999999999999//1", &value));
    assert_true(has_value("(1-2)**99999999999999999999", &value));
    assert_true(value == -1);
}

static void test_value_when_more_than_32_numbers_then_none(void **state)
{
    (void)state;
    char text[256] = "1";
    double value = 0;
    for (int i = 0; i < 99; i++)
        memcpy(text + 1 + 2 * i, "+1", 2);
    assert_true(has_value(text, &value)); /* left to right: two values wait at most */
    assert_true(value == 100);
    for (int i = 0; i < 40; i++)
        memcpy(text + 3 * i, "1**", 3);
    text[3 * 40] = '1';
    text[3 * 40 + 1] = '\0';
    assert_false(has_value(text, &value)); /* right to left: 41 wait */
}

static void test_value_when_parentheses_are_closed_then_their_depth_is_free_again(void **state)
{
    (void)state;
    char text[1024] = "(1)";
    double value = 0;
    for (int i = 0; i < 250; i++)
        memcpy(text + 3 + 4 * i, "+(1)", 4);
    text[3 + 4 * 250] = '\0';
    assert_true(has_value(text, &value));
    assert_true(value == 251);
}

static void test_value_when_a_byte_is_no_part_of_an_expression_then_none(void **state)
{
    (void)state;
    double value = 0;
    for (int c = 0; c < 256; c++) {
        char text[] = {'1', (char)c, '1'};
        bool is_fine = strchr("0123456789+-*/", c) != NULL && c != 0;
        if (sow_expression_value(workspace, text, sizeof text, &value) != is_fine)
            fail_msg("1 %d 1", c);
    }
}

static void test_uses_when_numbers_differ_then_false(void **state)
{
    (void)state;
    static const int64_t numbers[] = {44, 19, 35, 19};
    static const struct {
        const char *text;
        bool uses;
    } cases[] = {
        {"44 19 35 19", true},  {"(19+19)*044-35", true}, {"44+19+35", false}, {"44+19+35+19+1", false},
        {"44+19+35+35", false}, {"441935 19", false},     {"", false},         {"44+19+35+18446744073709551635", false},
        {"44.19 35x19", true},  {"4419+35+19", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (sow_expression_uses(cases[i].text, strlen(cases[i].text), numbers, 4) != cases[i].uses)
            fail_msg("'%s'", cases[i].text);
    assert_true(sow_expression_uses("no digits", 9, numbers, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_value_when_python_has_one_then_its_bits),
        cmocka_unit_test(test_value_when_python_raises_then_none),
        cmocka_unit_test(test_value_when_nested_then_bounded_as_python),
        cmocka_unit_test(test_value_when_beyond_16384_bits_then_none),
        cmocka_unit_test(test_value_when_more_than_32_numbers_then_none),
        cmocka_unit_test(test_value_when_parentheses_are_closed_then_their_depth_is_free_again),
        cmocka_unit_test(test_value_when_a_byte_is_no_part_of_an_expression_then_none),
        cmocka_unit_test(test_uses_when_numbers_differ_then_false),
    };
    return cmocka_run_group_tests_name("expression", tests, setup, teardown);
}
