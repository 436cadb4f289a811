// NEEDS: par base
// RANKS: 1 2 3 4
/* SPDX-License-Identifier: Apache-2.0 */
/* Start-up: who is where, agreement, and bytes from root to all. */
#include "ranks.h"

#include "sower/phase.h"

static int me, size;

static void test_world_started_knows_its_ranks(void **state)
{
    (void)state;
    assert_in_range(me, 0, size - 1);
    for (int r = 0; r < size; r++)
        assert_string_not_equal(sow_world_host(world, r), "");
    assert_true(strstr(sow_world_library(), "MPI") != NULL);
    assert_null(strchr(sow_world_library(), '\n'));
    assert_int_equal(sow_world_n_alive(world), size);
    assert_int_equal(sow_world_signal(world), 0);
    sow_world *second = NULL;
    CHECK_FAILS(sow_world_start(NULL, NULL, &second), SOW_EARG, "expected one start");
    assert_null(second);
}

static void test_agree_all_fine_is_ok(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++)
        CHECK_OK(sow_world_agree(world, SOW_OK));
    assert_int_equal(sow_world_exit_status(world, SOW_OK), 0);
}

static void test_agree_one_fails_all_learn_its_words(void **state)
{
    (void)state;
    for (int bad = 0; bad < size; bad++) {
        sow_code mine = me == bad ? SOW_FAIL(SOW_ECONF, "x.yaml:%d: es.sigma: bad", bad) : SOW_OK;
        sow_code rc = sow_world_agree(world, mine);
        assert_int_equal(rc, me == bad ? SOW_ECONF : SOW_EPEER);
        char words[64];
        (void)snprintf(words, sizeof words, "x.yaml:%d: es.sigma: bad", bad);
        assert_non_null(strstr(sow_error_text(), words));
        if (me != bad) {
            (void)snprintf(words, sizeof words, "rank %d on ", bad);
            assert_memory_equal(sow_error_text(), words, strlen(words));
        }
        assert_int_equal(sow_world_exit_status(world, rc), 2);
    }
    CHECK_OK(sow_world_barrier(world));
    assert_int_equal(sow_world_exit_status(world, SOW_EIO), 1);
}

static void test_agree_several_fail_lowest_speaks(void **state)
{
    (void)state;
    if (size < 3)
        skip();
    sow_code mine = SOW_OK;
    if (me == 1)
        mine = SOW_FAIL(SOW_EIO, "first");
    else if (me == 2)
        mine = SOW_FAIL(SOW_ECONF, "second");
    sow_code rc = sow_world_agree(world, mine);
    assert_string_equal(me == 2 ? "second" : "first", me == 1 || me == 2 ? sow_error_text() : "first");
    assert_int_equal(rc, me == 1 ? SOW_EIO : me == 2 ? SOW_ECONF : SOW_EPEER);
    if (rc == SOW_EPEER)
        assert_non_null(strstr(sow_error_text(), ": first"));
    assert_int_equal(sow_world_exit_status(world, rc), 1);
}

static unsigned char pattern(size_t i)
{
    return (unsigned char)((i * 2654435761U) >> 13);
}

static void test_bcast_any_size_arrives_everywhere(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 7, 4096, 1000003, ((size_t)64 << 20) + 5};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        unsigned char *data = NULL;
        CHECK_OK(SOW_ALLOC(&data, sizes[k] + 1));
        data[sizes[k]] = 77;
        for (size_t i = 0; me == 0 && i < sizes[k]; i++)
            data[i] = pattern(i);
        CHECK_OK(sow_world_bcast(world, data, sizes[k]));
        size_t n_wrong = 0;
        for (size_t i = 0; i < sizes[k]; i++)
            n_wrong += data[i] != pattern(i);
        assert_int_equal(n_wrong, 0);
        assert_int_equal(data[sizes[k]], 77);
        SOW_FREE(&data);
    }
}

static void test_bcast_block_size_known_by_root_only_arrives(void **state)
{
    (void)state;
    for (size_t n = 0; n < 100000; n = n * 3 + 1) {
        unsigned char *block = NULL;
        size_t bytes = me == 0 ? n : 12345;
        if (me == 0)
            CHECK_OK(SOW_ALLOC(&block, n + 1));
        for (size_t i = 0; me == 0 && i < n; i++)
            block[i] = pattern(i + n);
        CHECK_OK(sow_world_bcast_block(world, (void **)&block, &bytes));
        assert_int_equal(bytes, n);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(block[i], pattern(i + n));
        SOW_FREE(&block);
    }
}

static void test_bcast_block_no_memory_on_one_rank_fails_on_all(void **state)
{
    (void)state;
    if (size == 1)
        skip();
    unsigned char *block = NULL;
    size_t bytes = 1000;
    if (me == 0)
        CHECK_OK(SOW_ALLOC(&block, bytes));
    unsigned char *before = block;
    if (me == size - 1)
        sow_alloc_fail_at(1);
    sow_code rc = sow_world_bcast_block(world, (void **)&block, &bytes);
    sow_alloc_fail_at(0);
    assert_int_equal(rc, me == size - 1 ? SOW_ENOMEM : SOW_EPEER);
    assert_ptr_equal(block, before);
    SOW_FREE(&block);
}

static void test_gather_blocks_in_rank_order_on_root(void **state)
{
    (void)state;
    int64_t mine[3] = {me, 10 * me, -me}, all[3 * 8] = {0};
    CHECK_OK(sow_world_gather(world, mine, sizeof mine, me == 0 ? all : NULL));
    for (int r = 0; me == 0 && r < size; r++) {
        assert_int_equal(all[3 * r], r);
        assert_int_equal(all[3 * r + 1], 10 * r);
        assert_int_equal(all[3 * r + 2], -r);
    }
}

/* All ranks of this test run on one host. */
static void test_cut_per_node_gives_neighbours(void **state)
{
    (void)state;
    static const int64_t per_node[] = {0, 1, 2, 3, 100};
    for (size_t k = 0; k < sizeof per_node / sizeof *per_node; k++) {
        CHECK_OK(sow_world_cut(world, 60, per_node[k]));
        int n = per_node[k] == 0 || per_node[k] > size ? size : (int)per_node[k];
        assert_int_equal(sow_world_n_nodes(world), (size + n - 1) / n);
        for (int r = 0; r < size; r++) {
            assert_int_equal(sow_world_node_of(world, r), r / n);
            assert_int_equal(sow_world_node_member(world, r / n, r % n), r);
        }
        int last = sow_world_n_nodes(world) - 1;
        assert_int_equal(sow_world_node_size(world, last), size - last * n);
    }
}

static void test_cut_wrong_arguments_fails_on_all(void **state)
{
    (void)state;
    CHECK_FAILS(sow_world_cut(world, 0, 0), SOW_EARG, "expected a positive");
    CHECK_FAILS(sow_world_cut(world, (double)NAN, 0), SOW_EARG, "expected a positive");
    CHECK_FAILS(sow_world_cut(world, 1, -1), SOW_EARG, "expected 0");
    sow_code rc = sow_world_cut(world, me == size - 1 ? -1 : 1, 0);
    assert_int_equal(rc, me == size - 1 ? SOW_EARG : SOW_EPEER);
    assert_true(sow_world_deadline_s(world) == 60);
}

static void test_bcast_leaders_reaches_first_of_each_node_only(void **state)
{
    (void)state;
    for (int per_node = 1; per_node <= 3; per_node++) {
        CHECK_OK(sow_world_cut(world, 60, per_node));
        char text[100] = "";
        if (me == 0)
            (void)snprintf(text, sizeof text, "for leaders of %d", per_node);
        CHECK_OK(sow_world_bcast_leaders(world, text, sizeof text));
        assert_int_equal(text[0] != '\0', me % per_node == 0);
        CHECK_OK(sow_world_barrier(world));
    }
}

/* The last rank is late by many deadlines, but shows life: it is waited for. */
static void test_barrier_late_rank_that_ticks_is_waited_for(void **state)
{
    (void)state;
    CHECK_OK(sow_world_cut(world, 0.4, 0));
    for (double begun = sow_clock_now_s(); me == size - 1 && sow_clock_now_s() - begun < 1.5;) {
        sow_phase_tick();
        sow_clock_sleep_s(0.002);
    }
    CHECK_OK(sow_world_barrier(world));
    CHECK_OK(sow_world_cut(world, 60, 0));
}

/* The same without ticks, as in a part of loading that has none: on one host computing is life too. */
static void test_barrier_late_rank_that_computes_is_waited_for(void **state)
{
    (void)state;
    CHECK_OK(sow_world_cut(world, 0.5, 0));
    volatile double sum = 0;
    for (double begun = sow_clock_now_s(); me == size - 1 && sow_clock_now_s() - begun < 1.5;)
        sum += 1;
    assert_true(sum >= 0);
    CHECK_OK(sow_world_barrier(world));
    CHECK_OK(sow_world_cut(world, 60, 0));
}

int main(int argc, char **argv)
{
    if (!ranks_begin(&argc, &argv))
        return 1;
    me = sow_world_rank(world);
    size = sow_world_size(world);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_world_started_knows_its_ranks),
        cmocka_unit_test(test_agree_all_fine_is_ok),
        cmocka_unit_test(test_agree_one_fails_all_learn_its_words),
        cmocka_unit_test(test_agree_several_fail_lowest_speaks),
        cmocka_unit_test(test_bcast_any_size_arrives_everywhere),
        cmocka_unit_test(test_bcast_block_size_known_by_root_only_arrives),
        cmocka_unit_test(test_bcast_block_no_memory_on_one_rank_fails_on_all),
        cmocka_unit_test(test_gather_blocks_in_rank_order_on_root),
        cmocka_unit_test(test_cut_per_node_gives_neighbours),
        cmocka_unit_test(test_cut_wrong_arguments_fails_on_all),
        cmocka_unit_test(test_bcast_leaders_reaches_first_of_each_node_only),
        cmocka_unit_test(test_barrier_late_rank_that_ticks_is_waited_for),
        cmocka_unit_test(test_barrier_late_rank_that_computes_is_waited_for),
    };
    return ranks_end(cmocka_run_group_tests(tests, NULL, NULL), false);
}
