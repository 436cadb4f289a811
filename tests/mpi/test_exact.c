// NEEDS: par base
// RANKS: 1 2 3 4
/* SPDX-License-Identifier: Apache-2.0 */
/* Sums over members: any length, any subset, late members, overflow. */
#include "ranks.h"

#include "sower/exact.h"
#include "sower/phase.h"

enum { PART = 1 << 12, MOST = 4 }; /* numbers of a part; a piece is a part for each member */
static int me, size;
static sow_exact *exact;
static int64_t epoch; /* the same on all ranks, members or not */
static const double deadline_s = 2;

/* A number of a rank: any bits, but small enough that four do not overflow. */
static int64_t number(int rank, int64_t i)
{
    uint64_t x = (uint64_t)i * 0x9E3779B97F4A7C15U + (uint64_t)(rank + 1) * 0xD1B54A32D192ED03U;
    x = (x ^ (x >> 31)) * 0xBF58476D1CE4E5B9U;
    return (int64_t)(x ^ (x >> 29)) / 4;
}

/* Members by the bits of `set`. */
static int members_of(unsigned set, int *members)
{
    int n = 0;
    for (int r = 0; r < size; r++)
        if ((set >> r & 1) != 0)
            members[n++] = r;
    return n;
}

static void check_sum(unsigned set, int64_t n)
{
    int members[MOST];
    const int n_members = members_of(set, members);
    epoch++;
    if ((set >> me & 1) == 0)
        return;
    int64_t *data = NULL, n_wrong = 0;
    bool overflows = true;
    CHECK_OK(SOW_ALLOC(&data, n + 1));
    for (int64_t i = 0; i <= n; i++)
        data[i] = number(me, i);
    CHECK_OK(sow_exact_sum(exact, members, n_members, epoch, data, n, &overflows));
    for (int64_t i = 0; i < n; i++) {
        int64_t sum = 0;
        for (int k = 0; k < n_members; k++)
            sum += number(members[k], i);
        n_wrong += data[i] != sum;
    }
    assert_int_equal(n_wrong, 0);
    assert_true(data[n] == number(me, n) && !overflows);
    SOW_FREE(&data);
}

static unsigned everybody(void)
{
    return (1U << size) - 1;
}

static void test_sum_of_any_length_is_the_serial_one(void **state)
{
    (void)state;
    static const int64_t pieces[] = {0, 1, 2, 15, 16, 17, 33, 0}, rests[] = {0, 1, 2, 3, 7, 1001, -1, -2, -4096};
    for (size_t k = 0; k < sizeof pieces / sizeof *pieces; k++)
        for (size_t r = 0; r < sizeof rests / sizeof *rests; r++)
            if (pieces[k] > 0 || rests[r] >= 0)
                check_sum(everybody(), pieces[k] * PART * size + rests[r]);
}

static void test_sum_over_any_members_is_theirs(void **state)
{
    (void)state;
    for (unsigned set = 1; set <= everybody(); set++)
        check_sum(set, 1000 + (int64_t)set);
    for (unsigned set = everybody(); set > 0; set--)
        check_sum(set, 5 * PART + (int64_t)set);
}

/* On a busy machine members ask each other for signs of life, and letters stay in a pool: at most one a peer. */
static void test_many_sums_keep_their_room(void **state)
{
    (void)state;
    check_sum(everybody(), 64 * PART);
    int64_t before = sow_alloc_live();
    for (int i = 0; i < 100; i++)
        check_sum(everybody(), 100 + i);
    assert_true(sow_alloc_live() <= before + size);
}

/* A sum that does not fit is seen by all; sums on the way to one that fits are not. */
static void test_overflow_is_of_the_whole_sum_and_on_all(void **state)
{
    (void)state;
    int members[MOST];
    const int n_members = members_of(everybody(), members);
    int64_t data[9];
    bool overflows = false;
    for (int at = 0; at < 9; at++) {
        for (int fits = 0; fits < 2; fits++) {
            for (int i = 0; i < 9; i++)
                data[i] = me;
            if (me < 2)
                data[at] = at % 2 == 0 ? INT64_MAX : INT64_MIN;
            else if (fits)
                data[at] = at % 2 == 0 ? INT64_MIN : INT64_MAX;
            CHECK_OK(sow_exact_sum(exact, members, n_members, ++epoch, data, 9, &overflows));
            /* MAX + MAX + MIN fits, MIN + MIN + MAX does not */
            const bool is_fine = size == 1 || (fits && (size == 4 || (size == 3 && at % 2 == 0)));
            assert_int_equal(overflows, !is_fine);
            assert_int_equal(data[(at + 1) % 9], size * (size - 1) / 2);
            if (size == 4 && fits)
                assert_int_equal(data[at], -2);
        }
    }
    data[0] = me == 0 ? INT64_MAX - size + 1 : 1;
    data[1] = me == 0 ? INT64_MIN + size - 1 : -1;
    CHECK_OK(sow_exact_sum(exact, members, n_members, ++epoch, data, 2, &overflows));
    assert_true(!overflows && data[0] == INT64_MAX && data[1] == INT64_MIN);
}

/* The last rank is late by more than the deadline, but shows life: it is waited for. */
static void test_member_that_is_late_and_ticks_is_waited_for(void **state)
{
    (void)state;
    for (double begun = sow_clock_now_s(); me == size - 1 && sow_clock_now_s() - begun < 1.5 * deadline_s;) {
        sow_phase_tick();
        sow_clock_sleep_s(0.002);
    }
    check_sum(everybody(), 10);
}

static bool begin(int *argc, char ***argv)
{
    if (!ranks_begin(argc, argv))
        return false;
    me = sow_world_rank(world);
    size = sow_world_size(world);
    if (sow_world_cut(world, deadline_s, 1) == SOW_OK && sow_exact_create(world, &exact) == SOW_OK &&
        sow_world_seal(world) == SOW_OK)
        return true;
    (void)fprintf(stderr, "%s\n", sow_error_text());
    return false;
}

int main(int argc, char **argv)
{
    if (!begin(&argc, &argv))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum_of_any_length_is_the_serial_one),
        cmocka_unit_test(test_sum_over_any_members_is_theirs),
        cmocka_unit_test(test_many_sums_keep_their_room),
        cmocka_unit_test(test_overflow_is_of_the_whole_sum_and_on_all),
        cmocka_unit_test(test_member_that_is_late_and_ticks_is_waited_for),
    };
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    sow_exact_destroy(&exact);
    return ranks_end(failures, true);
}
