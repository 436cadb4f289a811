// NEEDS: base
// SPDX-License-Identifier: Apache-2.0
#include "check.h"

#include "sower/json.h"

static sow_code parse(const char *text, sow_json **out)
{
    return sow_json_parse(text, strlen(text), "f.json", out);
}

static void test_getters_say_no_to_other_kinds(void **state)
{
    (void)state;
    sow_json *json = NULL;
    int64_t i = 5;
    double x = 5;
    bool b = true;
    CHECK_OK(parse("{\"a\": [1, 2.5, \"t\", null, false], \"b\": {}}", &json));
    const sow_json *a = sow_json_get(json, "a");
    assert_int_equal(sow_json_size(a), 5);
    assert_true(sow_json_to_int(sow_json_at(a, 0), &i) && i == 1);
    assert_true(sow_json_to_real(sow_json_at(a, 0), &x) && x == 1.0);
    assert_false(sow_json_to_int(sow_json_at(a, 1), &i));
    assert_string_equal(sow_json_to_string(sow_json_at(a, 2), NULL), "t");
    assert_true(sow_json_to_bool(sow_json_at(a, 4), &b) && !b);
    assert_int_equal(sow_json_kind_of(sow_json_at(a, 5)), SOW_JSON_NONE);
    assert_null(sow_json_get(sow_json_get(json, "nothing"), "deeper"));
    assert_int_equal(sow_json_kind_of(sow_json_get(json, "b")), SOW_JSON_OBJECT);
    sow_json_destroy(&json);
}

static void test_bad_text_names_file_and_line(void **state)
{
    (void)state;
    const char *const bad[] = {"",         "{",    "{\"a\": 1, \"a\": 2}", "[1] x", "{\"a\": 01}",
                               "\"\xff\"", "[1,]", "{\"a\": 1e999}"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        sow_json *json = NULL;
        CHECK_FAILS(parse(bad[k], &json), SOW_EFORMAT, "f.json:1: is not JSON");
        assert_null(json);
    }
    sow_json *json = NULL;
    CHECK_FAILS(parse("{\n\"a\":\n}", &json), SOW_EFORMAT, "f.json:3:");
}

static void test_deep_nesting_is_refused(void **state)
{
    (void)state;
    sow_json *json = NULL;
    char *text = NULL;
    CHECK_OK(SOW_ALLOC(&text, 100001));
    memset(text, '[', 100000);
    CHECK_FAILS(parse(text, &json), SOW_EFORMAT, "depth");
    SOW_FREE(&text);
}

static void test_line_reads_back(void **state)
{
    (void)state;
    sow_line *line = NULL;
    sow_json *json = NULL;
    const char *text = NULL;
    double x = 0;
    CHECK_OK(sow_line_create(&line));
    sow_line_begin_object(line, NULL);
    sow_line_int(line, "i", -3);
    sow_line_real(line, "tenth", 0.1);
    sow_line_real(line, "third", 1.0 / 3.0);
    sow_line_real(line, "whole", 2.0);
    sow_line_real(line, "none", (double)NAN);
    sow_line_begin_array(line, "list");
    sow_line_string(line, NULL, "a\"b\n");
    sow_line_string_n(line, NULL,
                      "x\xff"
                      "y",
                      3);
    sow_line_bool(line, NULL, true);
    sow_line_end_array(line);
    sow_line_end_object(line);
    CHECK_OK(sow_line_text(line, &text));
    assert_string_equal(text,
                        "{\"i\": -3, \"tenth\": 0.1, \"third\": 0.33333333333333331, \"whole\": 2.0, \"none\": null, "
                        "\"list\": [\"a\\\"b\\n\", \"x\xef\xbf\xbdy\", true]}");
    CHECK_OK(parse(text, &json));
    assert_true(sow_json_to_real(sow_json_get(json, "third"), &x) && x == 1.0 / 3.0);
    sow_json_destroy(&json);
    sow_line_destroy(&line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_getters_say_no_to_other_kinds),
        cmocka_unit_test(test_bad_text_names_file_and_line),
        cmocka_unit_test(test_deep_nesting_is_refused),
        cmocka_unit_test(test_line_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
