// NEEDS: train
// SPDX-License-Identifier: Apache-2.0
/* Shared work on one process: every block once a key, and again where it was left behind. */
#include "../../src/train/share_impl.h"
#include "check.h"

enum { BLOCKS = 7 };

typedef struct fixture {
    char *memory; /* owned */
    share share;
    int computed[BLOCKS];
    int64_t fails; /* block whose computation fails; -1: none */
} fixture;

static void begin_with(fixture *f)
{
    *f = (fixture){.fails = -1};
    CHECK_OK(SOW_ALLOC(&f->memory, share_bytes(BLOCKS) + 64));
    share_init(&f->share, NULL, BLOCKS);
    share_place(&f->share, (char *)(((uintptr_t)f->memory + 63) / 64 * 64));
}

static sow_code compute(void *context, int64_t block)
{
    fixture *f = context;
    f->computed[block]++;
    return block == f->fails ? SOW_FAIL(SOW_ENUM, "block %lld fails", (long long)block) : SOW_OK;
}

static void check_computed(const fixture *f, int times)
{
    for (int i = 0; i < BLOCKS; i++)
        assert_int_equal(f->computed[i], times);
}

static void test_work_computes_each_block_once_a_key(void **state)
{
    (void)state;
    fixture f;
    begin_with(&f);
    for (int64_t key = 1; key <= 3; key++) {
        for (int twice = 0; twice < 2; twice++) {
            CHECK_OK(share_work(&f.share, key, compute, &f));
            CHECK_OK(share_complete(&f.share, key, "the test", compute, &f));
        }
        check_computed(&f, (int)key);
    }
    SOW_FREE(&f.memory);
}

static void test_earlier_key_computes_nothing(void **state)
{
    (void)state;
    fixture f;
    begin_with(&f);
    share_reach(&f.share, 5);
    CHECK_OK(share_work(&f.share, 5, compute, &f));
    CHECK_OK(share_work(&f.share, 4, compute, &f));
    CHECK_OK(share_complete(&f.share, 4, "the test", compute, &f));
    check_computed(&f, 0);
    CHECK_OK(share_work(&f.share, 6, compute, &f));
    check_computed(&f, 1);
    SOW_FREE(&f.memory);
}

static void test_complete_computes_what_was_claimed_and_not_stamped(void **state)
{
    (void)state;
    fixture f;
    begin_with(&f);
    atomic_store(&f.share.words[3].claim, INT64_C(2) << 16 | 1); /* this rank's own, left behind */
    CHECK_OK(share_work(&f.share, 2, compute, &f));
    assert_int_equal(f.computed[3], 0);
    CHECK_OK(share_complete(&f.share, 2, "the test", compute, &f));
    check_computed(&f, 1);
    for (int i = 0; i < BLOCKS; i++)
        assert_int_equal(atomic_load(&f.share.words[i].stamp), 2);
    SOW_FREE(&f.memory);
}

static void test_failed_block_ends_its_key_and_not_the_next(void **state)
{
    (void)state;
    fixture f;
    begin_with(&f);
    f.fails = 4;
    CHECK_FAILS(share_work(&f.share, 1, compute, &f), SOW_ENUM, "block 4 fails");
    CHECK_FAILS(share_complete(&f.share, 1, "the sum of tests", compute, &f), SOW_EPEER,
                "could not finish the sum of tests");
    assert_int_equal(f.computed[4], 1);
    f.fails = -1;
    CHECK_OK(share_work(&f.share, 2, compute, &f));
    CHECK_OK(share_complete(&f.share, 2, "the test", compute, &f));
    assert_int_equal(f.computed[4], 2);
    for (int i = 0; i < BLOCKS; i++)
        assert_int_equal(atomic_load(&f.share.words[i].stamp), 2);
    SOW_FREE(&f.memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_work_computes_each_block_once_a_key),
        cmocka_unit_test(test_earlier_key_computes_nothing),
        cmocka_unit_test(test_complete_computes_what_was_claimed_and_not_stamped),
        cmocka_unit_test(test_failed_block_ends_its_key_and_not_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
