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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_read_gives_what_was_written, make_ledger, drop_ledger),
        cmocka_unit_test_setup_teardown(test_any_changed_byte_is_found, make_ledger, drop_ledger),
        cmocka_unit_test_setup_teardown(test_changed_line_names_its_generation, make_ledger, drop_ledger),
        cmocka_unit_test_setup_teardown(test_torn_end_is_dropped_and_continued, make_ledger, drop_ledger),
        cmocka_unit_test_setup_teardown(test_torn_header_is_no_ledger, make_ledger, drop_ledger),
        cmocka_unit_test_setup_teardown(test_compare_names_the_setting_that_differs, make_ledger, drop_ledger),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
