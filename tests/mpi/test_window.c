// NEEDS: par base
// RANKS: 1 2 3 4
/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of a node: seen by its ranks, by no others, and refused where there is no room. */
#include "ranks.h"

#include "sower/window.h"

#include <stdatomic.h>

static int me, size;

static void check_window(int64_t per_node, size_t n)
{
    sow_window *window = NULL;
    CHECK_OK(sow_world_cut(world, 60, per_node));
    CHECK_OK(sow_window_create(world, n * sizeof(_Atomic int), "the test's numbers", &window));
    assert_int_equal(sow_window_bytes(window), n * sizeof(_Atomic int));
    _Atomic int *data = sow_window_data(window);
    assert_int_equal((uintptr_t)data % 64, 0);
    int node = sow_world_node_of(world, me), node_size = sow_world_node_size(world, node), index = 0;
    while (sow_world_node_member(world, node, index) != me)
        index++;
    for (size_t i = (size_t)index; i < n; i += (size_t)node_size)
        assert_int_equal(atomic_load(&data[i]), 0);
    CHECK_OK(sow_world_barrier(world));
    for (size_t i = (size_t)index; i < n; i += (size_t)node_size)
        atomic_store(&data[i], 1000 * me + (int)(i % 1000) + 1);
    CHECK_OK(sow_world_barrier(world));
    for (size_t i = 0; i < n; i++) {
        int writer = sow_world_node_member(world, node, (int)(i % (size_t)node_size));
        assert_int_equal(atomic_load(&data[i]), 1000 * writer + (int)(i % 1000) + 1);
    }
    CHECK_OK(sow_world_barrier(world));
    sow_window_destroy(&window);
    assert_null(window);
    sow_window_destroy(&window);
}

static void test_window_is_seen_by_its_node_and_no_other(void **state)
{
    (void)state;
    for (int64_t per_node = 0; per_node <= 3; per_node++)
        check_window(per_node, 50001);
    check_window(0, 1);
    check_window(2, 1);
}

static void test_window_without_room_is_an_error_on_all(void **state)
{
    (void)state;
    sow_window *window = NULL;
    int64_t live = sow_alloc_live();
    CHECK_OK(sow_world_cut(world, 60, 0));
    sow_code rc = sow_window_create(world, (size_t)1 << 50, "the weights", &window);
    assert_true(rc == SOW_ENOMEM || rc == SOW_EPEER);
    if (size > 1)
        assert_non_null(strstr(sow_error_text(), "/dev/shm: "));
    assert_non_null(strstr(sow_error_text(), size > 1 ? "needed for the weights" : "of the weights"));
    assert_null(window);
    assert_int_equal(sow_alloc_live(), live);
    CHECK_FAILS(sow_window_create(world, 0, "nothing", &window), SOW_EARG, "nothing");
    CHECK_FAILS(sow_window_create(world, SIZE_MAX, "all", &window), SOW_EARG, "all");
}

/* Each allocation of one rank fails once, until there is none left to fail. */
static void test_window_no_memory_for_its_book_is_an_error_on_all(void **state)
{
    (void)state;
    CHECK_OK(sow_world_cut(world, 60, 0));
    int n_failed = 0;
    for (int64_t nth = 1;; nth++) {
        sow_window *window = NULL;
        if (me == size - 1)
            sow_alloc_fail_at(nth);
        sow_code rc = sow_window_create(world, 1000, "a book", &window);
        sow_alloc_fail_at(0);
        if (rc == SOW_OK) {
            sow_window_destroy(&window);
            break;
        }
        n_failed++;
        assert_int_equal(rc, me == size - 1 ? SOW_ENOMEM : SOW_EPEER);
        assert_null(window);
    }
    assert_true(n_failed > 0);
}

int main(int argc, char **argv)
{
    if (!ranks_begin(&argc, &argv))
        return 1;
    me = sow_world_rank(world);
    size = sow_world_size(world);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window_is_seen_by_its_node_and_no_other),
        cmocka_unit_test(test_window_without_room_is_an_error_on_all),
        cmocka_unit_test(test_window_no_memory_for_its_book_is_an_error_on_all),
    };
    return ranks_end(cmocka_run_group_tests(tests, NULL, NULL), false);
}
