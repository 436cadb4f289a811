// NEEDS: train
// SPDX-License-Identifier: Apache-2.0
#include "check.h"

#include "sower/ledger.h"

enum { POPULATION = 3, LINES = 4 };

static char path[128];
static char *header;

static void make_header(const char *sigma)
{
    sow_conf *conf = NULL;
    char assignment[64];
    sow_ledger_facts facts = {
        .dtype = "fp16", .model = "m", .tokenizer = "t", .rows = "generated", .backend = "exact", .chat = "none"};
    (void)snprintf(assignment, sizeof assignment, "es.sigma=%s", sigma);
    SOW_FREE(&header);
    CHECK_OK(sow_conf_create(&conf));
    CHECK_OK(sow_conf_set(conf, "es.population=3"));
    CHECK_OK(sow_conf_set(conf, "task.name=countdown"));
    CHECK_OK(sow_conf_set(conf, assignment));
    CHECK_OK(sow_conf_finish(conf, NULL));
    CHECK_OK(sow_ledger_header(sow_conf_options(conf), &facts, &header));
    sow_conf_destroy(&conf);
}

static void fitness_of(int generation, double *out)
{
    for (int i = 0; i < POPULATION; i++)
        out[i] = (double)(generation * 7 + i) / 3.0;
}

static void write_lines(sow_ledger_writer *writer, int first, int last)
{
    for (int g = first; g <= last; g++) {
        double fitness[POPULATION];
        fitness_of(g, fitness);
        CHECK_OK(sow_ledger_write(writer, g, fitness, POPULATION, sow_hash_bytes(&g, sizeof g)));
    }
}

static int make_ledger(void **state)
{
    sow_ledger_writer *writer = NULL;
    (void)state;
    (void)snprintf(path, sizeof path, "%s/ledger.jsonl", check_folder());
    make_header("0.5");
    CHECK_OK(sow_ledger_create(path, header, &writer));
    write_lines(writer, 1, LINES);
    sow_ledger_close(&writer);
    return 0;
}

static int drop_ledger(void **state)
{
    (void)state;
    SOW_FREE(&header);
    (void)unlink(path);
    *strrchr(path, '/') = '\0';
    (void)rmdir(path);
    return 0;
}

static void read_file(char **text, size_t *bytes)
{
    CHECK_OK(sow_file_read(path, 1 << 20, text, bytes));
}

static void test_read_gives_what_was_written(void **state)
{
    (void)state;
    sow_ledger *l = NULL;
    CHECK_OK(sow_ledger_read(path, &l));
    assert_int_equal(l->n, LINES);
    assert_string_equal(l->header, header);
    assert_false(l->has_torn_end);
    for (int g = 1; g <= LINES; g++) {
        double fitness[POPULATION];
        fitness_of(g, fitness);
        assert_memory_equal(fitness, l->fitness + (g - 1) * POPULATION, sizeof fitness);
        assert_true(sow_hash_equal(l->digests[g - 1], sow_hash_bytes(&g, sizeof g)));
    }
    sow_ledger_destroy(&l);
}

/* Whatever single byte of the file is changed, reading fails, or what is left counts as torn and is dropped (a newline
 * that went joins two lines to one that is no JSON). */
static void test_any_changed_byte_is_found(void **state)
{
    (void)state;
    char *text = NULL;
    size_t bytes = 0;
    read_file(&text, &bytes);
    for (size_t i = 0; i < bytes; i++) {
        sow_ledger *l = NULL;
        char kept = text[i];
        text[i] = kept == '3' ? '4' : '3';
        CHECK_OK(sow_file_write(path, text, bytes));
        sow_code rc = sow_ledger_read(path, &l);
        if (rc == SOW_OK && !(l->has_torn_end && l->n < LINES) && i >= strlen(header))
            fail_msg("byte %zu of %zu: a changed file was read", i, bytes);
        if (rc == SOW_OK && i < strlen(header) && l->n != 0)
            fail_msg("byte %zu: a changed header was read with %lld lines", i, (long long)l->n);
        sow_ledger_destroy(&l);
        text[i] = kept;
    }
    SOW_FREE(&text);
}

static void test_changed_line_names_its_generation(void **state)
{
    (void)state;
    char *text = NULL;
    size_t bytes = 0;
    sow_ledger *l = NULL;
    read_file(&text, &bytes);
    char *line = strstr(text, "\"generation\": 3"), *digit = strstr(line, "0x1.");
    digit[4] = digit[4] == '0' ? '1' : '0';
    CHECK_OK(sow_file_write(path, text, bytes));
    CHECK_FAILS(sow_ledger_read(path, &l), SOW_EFORMAT, "generation 3");
    SOW_FREE(&text);
}

/* Cut at any byte, it reads as the whole lines before, and can be continued to the same bytes. */
static void test_torn_end_is_dropped_and_continued(void **state)
{
    (void)state;
    char *text = NULL, *again = NULL;
    size_t bytes = 0, bytes_again = 0;
    read_file(&text, &bytes);
    for (size_t cut = strlen(header) + 1; cut < bytes; cut += 17) {
        sow_ledger *l = NULL;
        sow_ledger_writer *writer = NULL;
        CHECK_OK(sow_file_write(path, text, cut));
        CHECK_OK(sow_ledger_read(path, &l));
        CHECK_OK(sow_ledger_continue(l, &writer));
        write_lines(writer, (int)l->n + 1, LINES);
        sow_ledger_close(&writer);
        sow_ledger_destroy(&l);
        read_file(&again, &bytes_again);
        assert_int_equal(bytes, bytes_again);
        assert_memory_equal(text, again, bytes);
        SOW_FREE(&again);
    }
    SOW_FREE(&text);
}

static void test_torn_header_is_no_ledger(void **state)
{
    (void)state;
    sow_ledger *l = NULL;
    CHECK_OK(sow_file_write(path, header, strlen(header) / 2));
    CHECK_OK(sow_ledger_read(path, &l));
    assert_null(l->header);
    assert_int_equal(l->n, 0);
    sow_ledger_destroy(&l);
}

static void test_compare_names_the_setting_that_differs(void **state)
{
    (void)state;
    char *was = NULL;
    CHECK_OK(sow_alloc_string(&was, header));
    CHECK_OK(sow_ledger_compare(path, was, header));
    make_header("0.25");
    CHECK_FAILS(sow_ledger_compare(path, was, header), SOW_ECONF,
                "es.sigma: '0.25' is not what the run began with, expected '0.5'");
    SOW_FREE(&was);
}

/* ---- grpo and sft ---- */

enum { STEPS = 3 };

/* Conf settings of a method, separated by blanks. */
static void make_method_header(const char *settings, char **out)
{
    sow_conf *conf = NULL;
    char room[256], *rest = room;
    sow_ledger_facts facts = {
        .dtype = "fp16", .model = "m", .tokenizer = "t", .rows = "generated", .backend = "exact", .chat = "none"};
    (void)snprintf(room, sizeof room, "%s", settings);
    CHECK_OK(sow_conf_create(&conf));
    CHECK_OK(sow_conf_set(conf, "task.name=countdown"));
    for (char *one = strsep(&rest, " "); one != NULL; one = strsep(&rest, " "))
        CHECK_OK(sow_conf_set(conf, one));
    CHECK_OK(sow_conf_finish(conf, NULL));
    SOW_FREE(out);
    CHECK_OK(sow_ledger_header(sow_conf_options(conf), &facts, out));
    sow_conf_destroy(&conf);
}

static double value_of(int step, int i)
{
    return (double)(step * 7 + i) / 3.0 - 5;
}

static void write_steps(sow_ledger_writer *writer, int first, int last, int n_values)
{
    for (int step = first; step <= last; step++) {
        double values[3];
        int other = -step;
        for (int i = 0; i < n_values; i++)
            values[i] = value_of(step, i);
        CHECK_OK(sow_ledger_write_step(writer, step, values, n_values, sow_hash_bytes(&step, sizeof step),
                                       sow_hash_bytes(&other, sizeof other)));
    }
}

static void make_steps(const char *settings, int n_values)
{
    sow_ledger_writer *writer = NULL;
    make_method_header(settings, &header);
    CHECK_OK(sow_ledger_create(path, header, &writer));
    write_steps(writer, 1, STEPS, n_values);
    sow_ledger_close(&writer);
}

static void check_steps(const char *settings, int n_values)
{
    sow_ledger *l = NULL;
    make_steps(settings, n_values);
    CHECK_OK(sow_ledger_read(path, &l));
    assert_int_equal(l->n, STEPS);
    assert_int_equal(l->population, n_values);
    assert_true(l->has_moments);
    assert_false(l->has_torn_end);
    for (int step = 1; step <= STEPS; step++) {
        int other = -step;
        for (int i = 0; i < n_values; i++)
            assert_true(l->fitness[(step - 1) * n_values + i] == value_of(step, i));
        assert_true(sow_hash_equal(l->digests[step - 1], sow_hash_bytes(&step, sizeof step)));
        assert_true(sow_hash_equal(l->moments[step - 1], sow_hash_bytes(&other, sizeof other)));
    }
    sow_ledger_destroy(&l);
}

static void test_steps_of_methods_with_moments_are_read_as_written(void **state)
{
    (void)state;
    check_steps("method=grpo", 3);
    check_steps("method=sft", 2);
}

static void test_changed_character_of_a_step_names_it(void **state)
{
    (void)state;
    static const char *const keys[] = {"\"values\": [\"", "\"digest\": \"", "\"moments\": \"", "\"chain\": \""};
    make_steps("method=grpo", 3);
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        char *text = NULL;
        size_t bytes = 0;
        sow_ledger *l = NULL;
        read_file(&text, &bytes);
        char *line = strstr(text, "{\"step\": 2"), *at = strstr(line, keys[k]) + strlen(keys[k]);
        char *digit = at + strcspn(at, "0123456789"), kept = *digit;
        *digit = *digit == '1' ? '2' : '1';
        CHECK_OK(sow_file_write(path, text, bytes));
        if (k == 0) /* a value that is another, or no number */
            CHECK_FAILS(sow_ledger_read(path, &l), SOW_EFORMAT, "ledger.jsonl:3: step 2: ");
        else
            CHECK_FAILS(sow_ledger_read(path, &l), SOW_EFORMAT, "ledger.jsonl:3: step 2: the chain does not fit");
        *digit = kept;
        CHECK_OK(sow_file_write(path, text, bytes));
        CHECK_OK(sow_ledger_read(path, &l));
        sow_ledger_destroy(&l);
        SOW_FREE(&text);
    }
}

static void test_torn_step_is_dropped_and_continued(void **state)
{
    (void)state;
    char *text = NULL, *again = NULL;
    size_t bytes = 0, bytes_again = 0;
    make_steps("method=sft", 2);
    read_file(&text, &bytes);
    for (size_t cut = strlen(header) + 1; cut < bytes; cut += 13) {
        sow_ledger *l = NULL;
        sow_ledger_writer *writer = NULL;
        CHECK_OK(sow_file_write(path, text, cut));
        CHECK_OK(sow_ledger_read(path, &l));
        assert_true(l->n < STEPS);
        CHECK_OK(sow_ledger_continue(l, &writer));
        write_steps(writer, (int)l->n + 1, STEPS, 2);
        sow_ledger_close(&writer);
        sow_ledger_destroy(&l);
        read_file(&again, &bytes_again);
        assert_int_equal(bytes, bytes_again);
        assert_memory_equal(text, again, bytes);
        SOW_FREE(&again);
    }
    SOW_FREE(&text);
}

/* A line of sft has no room in a ledger of grpo, and lines of steps none in one of generations. */
static void test_lines_of_another_method_are_refused(void **state)
{
    (void)state;
    sow_ledger *l = NULL;
    sow_ledger_writer *writer = NULL;
    make_method_header("method=grpo", &header);
    CHECK_OK(sow_ledger_create(path, header, &writer));
    write_steps(writer, 1, 1, 2);
    sow_ledger_close(&writer);
    CHECK_FAILS(sow_ledger_read(path, &l), SOW_EFORMAT, "step 1: has 2 numbers, expected 3");
    make_header("0.5");
    CHECK_OK(sow_ledger_create(path, header, &writer));
    write_steps(writer, 1, 1, 3);
    sow_ledger_close(&writer);
    CHECK_FAILS(sow_ledger_read(path, &l), SOW_EFORMAT, "ledger.jsonl:2: generation 1: its number is -1");
}

/* Under a falling rate the run's length determines every step, so it stands in the header; else it does not. */
static void test_header_has_the_steps_where_the_rate_falls(void **state)
{
    (void)state;
    char *other = NULL;
    static const char *const falling[] = {"method=sft sft.schedule=cosine", "method=sft sft.schedule=linear",
                                          "method=grpo grpo.schedule=linear", "method=grpo grpo.schedule=cosine"};
    static const char *const free_of_it[] = {"method=sft",
                                             "method=grpo",
                                             "method=es",
                                             "method=sft grpo.schedule=linear",
                                             "method=grpo sft.schedule=cosine",
                                             "method=es sft.schedule=cosine"};
    for (size_t i = 0; i < sizeof falling / sizeof *falling; i++) {
        char longer[128];
        make_method_header(falling[i], &header);
        assert_non_null(strstr(header, "\"steps\": "));
        (void)snprintf(longer, sizeof longer, "%s run.steps=77", falling[i]);
        make_method_header(longer, &other);
        assert_non_null(strstr(other, "\"steps\": 77"));
        CHECK_FAILS(sow_ledger_compare(path, header, other), SOW_ECONF, "steps: 77 is not what the run began with");
    }
    for (size_t i = 0; i < sizeof free_of_it / sizeof *free_of_it; i++) {
        char longer[128];
        make_method_header(free_of_it[i], &header);
        assert_null(strstr(header, "\"steps\": "));
        (void)snprintf(longer, sizeof longer, "%s run.steps=77", free_of_it[i]);
        make_method_header(longer, &other);
        assert_string_equal(header, other);
    }
    SOW_FREE(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_read_gives_what_was_written, make_ledger, drop_ledger),
        cmocka_unit_test_setup_teardown(test_any_changed_byte_is_found, make_ledger, drop_ledger),
        cmocka_unit_test_setup_teardown(test_changed_line_names_its_generation, make_ledger, drop_ledger),
        cmocka_unit_test_setup_teardown(test_torn_end_is_dropped_and_continued, make_ledger, drop_ledger),
        cmocka_unit_test_setup_teardown(test_torn_header_is_no_ledger, make_ledger, drop_ledger),
        cmocka_unit_test_setup_teardown(test_compare_names_the_setting_that_differs, make_ledger, drop_ledger),
        cmocka_unit_test_setup_teardown(test_steps_of_methods_with_moments_are_read_as_written, make_ledger,
                                        drop_ledger),
        cmocka_unit_test_setup_teardown(test_changed_character_of_a_step_names_it, make_ledger, drop_ledger),
        cmocka_unit_test_setup_teardown(test_torn_step_is_dropped_and_continued, make_ledger, drop_ledger),
        cmocka_unit_test_setup_teardown(test_lines_of_another_method_are_refused, make_ledger, drop_ledger),
        cmocka_unit_test_setup_teardown(test_header_has_the_steps_where_the_rate_falls, make_ledger, drop_ledger),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
