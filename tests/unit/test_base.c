// NEEDS: base
// SPDX-License-Identifier: Apache-2.0
/* Errors, memory, words, files, hashes, phases, random numbers. */
#include "check.h"

#include "sower/file.h"
#include "sower/hash.h"
#include "sower/phase.h"
#include "sower/philox.h"
#include "sower/words.h"

#include <signal.h>
#include <sys/wait.h>

static void test_error_keeps_message_on_one_line(void **state)
{
    (void)state;
    assert_int_equal(SOW_FAIL(SOW_EIO, "a\nb %d", 3), SOW_EIO);
    assert_string_equal(sow_error_text(), "a b 3");
    assert_int_equal(SOW_FAIL(SOW_EFORMAT, "again: %s", sow_error_text()), SOW_EFORMAT);
    assert_string_equal(sow_error_text(), "again: a b 3");
    assert_int_equal(sow_code_exit(SOW_ECONF), 2);
    assert_int_equal(sow_code_exit(SOW_ESTOP), 75);
}

static void test_alloc_is_zeroed_aligned_and_counted(void **state)
{
    (void)state;
    int64_t live = sow_alloc_live(), taken = sow_alloc_taken();
    int *p = NULL;
    CHECK_OK(SOW_ALLOC(&p, 1000));
    assert_int_equal((uintptr_t)p % 64, 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(p[i], 0);
    assert_int_equal(sow_alloc_live(), live + 1);
    assert_int_equal(sow_alloc_taken(), taken + 1);
    SOW_FREE(&p);
    assert_null(p);
    assert_int_equal(sow_alloc_live(), live);
}

static void test_alloc_fails_cleanly(void **state)
{
    (void)state;
    double *p = NULL;
    CHECK_FAILS(SOW_ALLOC(&p, SIZE_MAX / 2), SOW_ENOMEM, "more than memory can address");
    sow_alloc_fail_at(2);
    CHECK_OK(SOW_ALLOC(&p, 1));
    double *q = NULL;
    CHECK_FAILS(SOW_ALLOC(&q, 1), SOW_ENOMEM, "no memory");
    assert_null(q);
    CHECK_OK(SOW_ALLOC(&q, 1));
    SOW_FREE(&p);
    SOW_FREE(&q);
}

static void test_numbers_are_strict(void **state)
{
    (void)state;
    int64_t i = 7;
    double x = 7;
    const char *const bad[] = {"", " 1", "1 ", "1x", "99999999999999999999", "nan", "inf", "1e999"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        assert_false(sow_words_to_int(bad[k], &i));
        if (k != 4)
            assert_false(sow_words_to_real(bad[k], &x));
    }
    assert_int_equal(i, 7);
    assert_true(sow_words_to_int("-12", &i) && i == -12);
    assert_true(sow_words_to_real("5e-4", &x) && x == 5e-4);
    assert_true(sow_words_to_real("1e-320", &x) && x > 0);
}

static void test_nearest_finds_typing_errors_only(void **state)
{
    (void)state;
    const char *const names[] = {"es.sigma", "es.alpha", "run.seed"};
    assert_int_equal(sow_words_distance("kitten", "sitting"), 3);
    assert_string_equal(sow_words_nearest("es.sigmaa", names, 3), "es.sigma");
    assert_string_equal(sow_words_nearest("run.sead", names, 3), "run.seed");
    assert_null(sow_words_nearest("weather", names, 3));
}

static void test_utf8_is_that_of_rfc_3629(void **state)
{
    (void)state;
    assert_true(sow_words_is_utf8("a\xc3\xa9\xe6\xbc\xa2\xf0\x9f\x98\x80", 10));
    const char *const bad[] = {
        "\x80", "\xc0\xaf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80", "\xc3"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
        assert_false(sow_words_is_utf8(bad[k], strlen(bad[k])));
}

static void test_crc32_and_hash_are_the_published(void **state)
{
    (void)state;
    char hex[SOW_HASH_HEX];
    assert_int_equal(sow_hash_crc32("123456789", 9), 0xcbf43926);
    sow_hash_write(sow_hash_bytes("", 0), hex); /* xxHash's own test of XXH3-128 without input */
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
}

static void test_atomic_file_keeps_the_old_one_until_commit(void **state)
{
    (void)state;
    char folder[64], path[128];
    char *text = NULL;
    size_t bytes = 0;
    sow_writer *writer = NULL;
    (void)snprintf(folder, sizeof folder, "%s", check_folder());
    CHECK_OK(sow_file_join(folder, "f", path, sizeof path));
    CHECK_OK(sow_file_write(path, "old", 3));
    CHECK_OK(sow_writer_create(path, &writer));
    CHECK_OK(sow_writer_write(writer, "new!", 4));
    CHECK_OK(sow_file_read(path, 100, &text, &bytes));
    assert_string_equal(text, "old");
    SOW_FREE(&text);
    CHECK_OK(sow_writer_commit(&writer));
    CHECK_OK(sow_file_read(path, 100, &text, &bytes));
    assert_string_equal(text, "new!");
    SOW_FREE(&text);
    CHECK_FAILS(sow_file_read(path, 3, &text, &bytes), SOW_EIO, "at most 3");
    CHECK_FAILS(sow_file_write("/nonexistent/f", "x", 1), SOW_EIO, "/nonexistent/f.tmp: cannot create");
    (void)unlink(path);
    (void)rmdir(folder);
}

static void test_full_disk_is_an_error(void **state)
{
    (void)state;
    sow_appender *a = NULL;
    if (access("/dev/full", W_OK) != 0)
        skip();
    sow_code rc = sow_appender_open("/dev/full", 0, false, &a);
    if (rc == SOW_OK)
        rc = sow_appender_line(a, "text");
    assert_int_equal(rc, SOW_EIO);
    sow_appender_close(&a);
}

static void test_appender_cuts_and_goes_on(void **state)
{
    (void)state;
    char folder[64], path[128];
    char *text = NULL;
    size_t bytes = 0;
    sow_appender *a = NULL;
    (void)snprintf(folder, sizeof folder, "%s", check_folder());
    CHECK_OK(sow_file_join(folder, "f", path, sizeof path));
    CHECK_OK(sow_file_write(path, "one\ntwo\ntorn", 12));
    CHECK_OK(sow_appender_open(path, 8, true, &a));
    CHECK_OK(sow_appender_line(a, "three"));
    assert_int_equal(sow_appender_bytes(a), 14);
    sow_appender_close(&a);
    CHECK_OK(sow_file_read(path, 100, &text, &bytes));
    assert_string_equal(text, "one\ntwo\nthree\n");
    SOW_FREE(&text);
    (void)unlink(path);
    (void)rmdir(folder);
}

static void test_fault_is_raised_at_its_count(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        if (sow_phase_set_fault("2:decode:3:KILL", 2) != SOW_OK)
            _exit(1);
        for (int i = 0; i < 2; i++) {
            sow_phase_enter(SOW_PHASE_DECODE);
            sow_phase_enter(SOW_PHASE_GRADE);
        }
        if (write(STDOUT_FILENO, "", 0) != 0)
            _exit(2);
        sow_phase_enter(SOW_PHASE_DECODE);
        _exit(3);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_fault_of_another_form_is_refused(void **state)
{
    (void)state;
    const char *const bad[] = {"x",
                               "1:decode:1",
                               "1:sleep:1:KILL",
                               "1:decode:0:KILL",
                               "-1:decode:1:KILL",
                               "1:decode:1:HUP",
                               "1:decode:1:KILL:2"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
        CHECK_FAILS(sow_phase_set_fault(bad[k], 0), SOW_ECONF, "RANK:PHASE:COUNT:SIGNAL");
    CHECK_OK(sow_phase_set_fault("", 0));
}

static void test_random_below_is_uniform_and_pure(void **state)
{
    (void)state;
    sow_random a, b;
    int64_t counts[7] = {0};
    sow_random_init(&a, sow_place_of(SOW_STREAM_ROW, 1, 2, 3, 4));
    sow_random_init(&b, sow_place_of(SOW_STREAM_ROW, 1, 2, 3, 4));
    for (int i = 0; i < 70000; i++) {
        uint32_t x = sow_random_below(&a, 7);
        assert_int_equal(x, sow_random_below(&b, 7));
        counts[x]++;
    }
    for (int i = 0; i < 7; i++) /* binomial: standard deviation 93 */
        CHECK_NEAR((double)counts[i], 10000, 5 * 93);
}

static void test_philox_is_the_published(void **state)
{
    (void)state;
    /* Random123's kat_vectors, philox4x32 10 */
    uint64_t words[4] = {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344};
    const uint32_t key[2] = {0xa4093822, 0x299f31d0}, want[4] = {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1};
    sow_philox4x32(key, words);
    for (int i = 0; i < 4; i++)
        assert_int_equal((uint32_t)words[i], want[i]);
}

static void test_shuffle_is_a_permutation(void **state)
{
    (void)state;
    int items[50], seen[50] = {0}, moved = 0;
    sow_random random;
    sow_random_init(&random, sow_place_of(SOW_STREAM_TEST, 9, 0, 0, 0));
    for (int i = 0; i < 50; i++)
        items[i] = i;
    sow_random_shuffle(&random, items, 50, sizeof *items);
    for (int i = 0; i < 50; i++) {
        seen[items[i]]++;
        moved += items[i] != i;
    }
    for (int i = 0; i < 50; i++)
        assert_int_equal(seen[i], 1);
    assert_true(moved > 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_keeps_message_on_one_line),
        cmocka_unit_test(test_alloc_is_zeroed_aligned_and_counted),
        cmocka_unit_test(test_alloc_fails_cleanly),
        cmocka_unit_test(test_numbers_are_strict),
        cmocka_unit_test(test_nearest_finds_typing_errors_only),
        cmocka_unit_test(test_utf8_is_that_of_rfc_3629),
        cmocka_unit_test(test_crc32_and_hash_are_the_published),
        cmocka_unit_test(test_atomic_file_keeps_the_old_one_until_commit),
        cmocka_unit_test(test_full_disk_is_an_error),
        cmocka_unit_test(test_appender_cuts_and_goes_on),
        cmocka_unit_test(test_fault_is_raised_at_its_count),
        cmocka_unit_test(test_fault_of_another_form_is_refused),
        cmocka_unit_test(test_random_below_is_uniform_and_pure),
        cmocka_unit_test(test_philox_is_the_published),
        cmocka_unit_test(test_shuffle_is_a_permutation),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
