// NEEDS: text base
/* SPDX-License-Identifier: Apache-2.0 */
/* Regular expressions: matches, groups, and what cannot be compiled or matched. */
#include "check.h"

#include "sower/pattern.h"

/* The groups of the first match at or after `from`, as "start-end start-end ...", "none" without a match. */
static void check_find(const char *expression, bool is_dotall, const char *text, size_t from, int n, const char *want)
{
    sow_pattern *pattern = NULL;
    int64_t groups[4][2];
    char got[128] = "none";
    size_t used = 0;
    CHECK_OK(sow_pattern_compile(expression, is_dotall, &pattern));
    if (sow_pattern_find(pattern, text, strlen(text), from, n, groups))
        for (int i = 0; i < n; i++)
            used += (size_t)snprintf(got + used, sizeof got - used, "%s%lld-%lld", i > 0 ? " " : "",
                                     (long long)groups[i][0], (long long)groups[i][1]);
    assert_string_equal(got, want);
    sow_pattern_destroy(&pattern);
}

static void test_find_gives_bytes_of_groups(void **state)
{
    (void)state;
    check_find("(\\d+)-(\\d+)", false, "a 12-345", 0, 3, "2-8 2-4 5-8");
    check_find("é(x)?", false, "aéb", 0, 2, "1-3 -1--1");
    check_find("a", false, "a", 0, 3, "0-1 -1--1 -1--1");
    check_find("b", false, "a", 0, 1, "none");
    check_find("", false, "", 0, 1, "0-0");
}

static void test_find_from_an_offset_sees_what_is_before(void **state)
{
    (void)state;
    check_find("\\d+", false, "1 22 333", 1, 1, "2-4");
    check_find("(?<=1)2", false, "12", 1, 1, "1-2");
    check_find("^2", false, "12", 1, 1, "none");
}

static void test_find_with_dotall_crosses_lines(void **state)
{
    (void)state;
    check_find("a.*b", false, "a\nb", 0, 1, "none");
    check_find("a.*b", true, "a\nb", 0, 1, "0-3");
}

static void test_find_knows_unicode(void **state)
{
    (void)state;
    check_find("^\\p{Lu}\\w+$", false, "Äpfel", 0, 1, "0-6");
    check_find("(?i)straSSE", false, "STRASSE", 0, 1, "0-7");
}

static void test_find_in_text_that_is_not_utf8_finds_nothing(void **state)
{
    (void)state;
    check_find("a", false, "a\xFF", 0, 1, "none");
}

static void test_find_beyond_the_match_limit_finds_nothing(void **state)
{
    (void)state;
    check_find("^(a+)+$", false, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", 0, 1, "none");
}

static void test_compile_of_a_wrong_expression_says_where(void **state)
{
    (void)state;
    sow_pattern *pattern = NULL;
    CHECK_FAILS(sow_pattern_compile("a(b", false, &pattern), SOW_EFORMAT, "'a(b' is wrong at offset 3");
    CHECK_FAILS(sow_pattern_compile("[", false, &pattern), SOW_EFORMAT, "offset 1");
    CHECK_FAILS(sow_pattern_compile("\xFF", false, &pattern), SOW_EFORMAT, "UTF-8");
    CHECK_FAILS(sow_pattern_compile("\\C", false, &pattern), SOW_EFORMAT, "offset");
    assert_null(pattern);
}

static void test_compile_without_memory_fails_cleanly(void **state)
{
    (void)state;
    sow_pattern *pattern = NULL;
    int n = 0;
    sow_code rc = SOW_ENOMEM;
    while (rc != SOW_OK && n < 100) {
        sow_alloc_fail_at(++n);
        rc = sow_pattern_compile("(a|b)+\\p{L}", false, &pattern);
        sow_alloc_fail_at(0);
        assert_true(rc == SOW_OK || rc == SOW_ENOMEM);
        assert_true(rc == SOW_OK || sow_alloc_live() == 0);
    }
    assert_int_equal(rc, SOW_OK);
    assert_true(n > 3);
    sow_pattern_destroy(&pattern);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find_gives_bytes_of_groups),
        cmocka_unit_test(test_find_from_an_offset_sees_what_is_before),
        cmocka_unit_test(test_find_with_dotall_crosses_lines),
        cmocka_unit_test(test_find_knows_unicode),
        cmocka_unit_test(test_find_in_text_that_is_not_utf8_finds_nothing),
        cmocka_unit_test(test_find_beyond_the_match_limit_finds_nothing),
        cmocka_unit_test(test_compile_of_a_wrong_expression_says_where),
        cmocka_unit_test(test_compile_without_memory_fails_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
