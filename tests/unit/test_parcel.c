// NEEDS: train
// SPDX-License-Identifier: Apache-2.0
/* Parcels as they come in: parts in order, from a second sender, cut short, and bytes that are no parts at all. */
#include "../../src/train/parcel_impl.h"
#include "check.h"

#include "sower/philox.h"

/* What a part looks like on its way: parcel.c's layout, written down a second time. */
typedef struct part_head {
    int32_t round, id;
    int64_t total, offset;
} part_head;

enum { ROOM = SOW_MESSAGE_BYTES - sizeof(part_head), WHOLE = 9001 /* three parts */ };

static char text[WHOLE];

static sow_message part_of(int from, int32_t round, int32_t id, int64_t total, int64_t offset, size_t n)
{
    part_head head = {.round = round, .id = id, .total = total, .offset = offset};
    sow_message m = {.from = from, .bytes = sizeof head + n};
    memcpy(m.data, &head, sizeof head);
    memcpy(m.data + sizeof head, text + offset, n);
    return m;
}

static void take(sow_parcels *p, sow_message m)
{
    CHECK_OK(sow_parcels_take(p, &m));
}

/* Part k of `text` as a whole. */
static void take_part(sow_parcels *p, int from, int32_t round, int32_t id, int k)
{
    size_t at = (size_t)k * ROOM, n = WHOLE - at < ROOM ? WHOLE - at : ROOM;
    take(p, part_of(from, round, id, WHOLE, (int64_t)at, n));
}

static void check_whole(const sow_parcels *p, int32_t round, int32_t id)
{
    const sow_parcel *parcel = sow_parcels_get(p, round, id);
    assert_non_null(parcel);
    assert_int_equal(parcel->data.bytes, WHOLE);
    assert_memory_equal(parcel->data.text, text, WHOLE);
}

static int make_text(void **state)
{
    (void)state;
    for (int i = 0; i < WHOLE; i++)
        text[i] = (char)(i * 7 + i / 250);
    return 0;
}

static void test_parts_in_order_make_the_whole(void **state)
{
    (void)state;
    sow_parcels p = {.round = 3};
    for (int k = 0; k < 3; k++) {
        assert_null(sow_parcels_get(&p, 3, 5));
        take_part(&p, 1, 3, 5, k);
        take_part(&p, 2, 3, 0, k); /* another unit's in between */
    }
    check_whole(&p, 3, 5);
    check_whole(&p, 3, 0);
    assert_null(sow_parcels_get(&p, 3, 1));
    assert_null(sow_parcels_get(&p, 3, -1));
    assert_null(sow_parcels_get(&p, 3, 6));
    assert_null(sow_parcels_get(&p, 2, 5));
    sow_parcels_fini(&p);
}

static void test_empty_parcel_is_whole(void **state)
{
    (void)state;
    sow_parcels p = {0};
    take(&p, part_of(1, 0, 0, 0, 0, 0));
    const sow_parcel *parcel = sow_parcels_get(&p, 0, 0);
    assert_non_null(parcel);
    assert_int_equal(parcel->data.bytes, 0);
    sow_parcels_fini(&p);
}

static void test_second_sender_takes_the_place_of_a_cut_one(void **state)
{
    (void)state;
    sow_parcels p = {.round = 1};
    take_part(&p, 1, 1, 0, 0);
    take_part(&p, 1, 1, 0, 1);
    take_part(&p, 2, 1, 0, 0); /* begins anew */
    take_part(&p, 1, 1, 0, 2); /* the first one's end, too late */
    assert_null(sow_parcels_get(&p, 1, 0));
    take_part(&p, 2, 1, 0, 1);
    take_part(&p, 2, 1, 0, 2);
    check_whole(&p, 1, 0);
    assert_int_equal(sow_parcels_get(&p, 1, 0)->from, 2);
    text[0]++; /* what comes behind a whole one is not looked at */
    take_part(&p, 3, 1, 0, 0);
    text[0]--;
    check_whole(&p, 1, 0);
    sow_parcels_fini(&p);
}

static void test_missing_part_leaves_it_open(void **state)
{
    (void)state;
    sow_parcels p = {.round = 1};
    take_part(&p, 1, 1, 0, 1); /* no beginning */
    take_part(&p, 1, 1, 0, 2);
    assert_null(sow_parcels_get(&p, 1, 0));
    take_part(&p, 1, 1, 0, 0);
    take_part(&p, 1, 1, 0, 2); /* a hole */
    assert_null(sow_parcels_get(&p, 1, 0));
    take_part(&p, 1, 1, 0, 1);
    take_part(&p, 1, 1, 0, 2);
    check_whole(&p, 1, 0);
    sow_parcels_fini(&p);
}

static void test_rounds_drop_the_earlier_and_begin_the_later(void **state)
{
    (void)state;
    sow_parcels p = {.round = 4};
    take_part(&p, 1, 4, 0, 0);
    for (int k = 0; k < 3; k++)
        take_part(&p, 1, 3, 0, k);
    assert_null(sow_parcels_get(&p, 3, 0));
    for (int k = 0; k < 3; k++)
        take_part(&p, 1, 5, 0, k);
    check_whole(&p, 5, 0);
    take_part(&p, 1, 4, 0, 1);
    check_whole(&p, 5, 0);
    sow_parcels_start(&p, 6);
    assert_null(sow_parcels_get(&p, 6, 0));
    sow_parcels_fini(&p);
}

static void test_put_is_whole_at_once_and_counts_first(void **state)
{
    (void)state;
    sow_parcels p = {.round = -1};
    CHECK_OK(sow_parcels_put(&p, 2, 7, text, WHOLE));
    check_whole(&p, 2, 7);
    CHECK_OK(sow_parcels_put(&p, 2, 7, text, 5));
    check_whole(&p, 2, 7);
    sow_parcels_fini(&p);
}

static void refuse(sow_message m)
{
    sow_parcels p = {0};
    CHECK_FAILS(sow_parcels_take(&p, &m), SOW_ECOMM, "rank 3 sent a part of");
    assert_int_equal(p.n, 0);
    sow_parcels_fini(&p);
}

static void test_what_is_no_part_is_refused(void **state)
{
    (void)state;
    sow_message m = part_of(3, 0, 0, 10, 0, 10);
    m.bytes = sizeof(part_head) - 1;
    refuse(m);
    m.bytes = 0;
    refuse(m);
    refuse(part_of(3, 0, -1, 10, 0, 10));
    refuse(part_of(3, 0, INT32_MAX, 10, 0, 10));
    refuse(part_of(3, 0, 1 << 24, 10, 0, 10));
    refuse(part_of(3, 0, 0, -1, 0, 0));
    refuse(part_of(3, 0, 0, INT64_MAX, 0, 10));
    refuse(part_of(3, 0, 0, ((int64_t)1 << 34) + 1, 0, 10));
    refuse(part_of(3, 0, 0, 9, 0, 10)); /* more than all of it */
    refuse(part_of(3, 0, 0, 10, 1, 10));
    m = part_of(3, 0, 0, 10, 0, 10);
    int64_t bad = -5, far = INT64_MAX - 3;
    memcpy(m.data + offsetof(part_head, offset), &bad, sizeof bad);
    refuse(m);
    memcpy(m.data + offsetof(part_head, offset), &far, sizeof far); /* offset + bytes must not wrap around */
    refuse(m);
}

static void test_any_bytes_are_taken_or_refused(void **state)
{
    (void)state;
    sow_parcels p = {0};
    sow_random random;
    sow_random_init(&random, sow_place_of(SOW_STREAM_TEST, 1, 0, 0, 0));
    for (int i = 0; i < 3000; i++) {
        sow_message m = {.from = 1, .bytes = sow_random_below(&random, 60)};
        for (size_t k = 0; k < m.bytes; k++)
            m.data[k] = (unsigned char)(sow_random_below(&random, 3) == 0 ? sow_random_next(&random) : 0);
        part_head head;
        memcpy(&head, m.data, sizeof head);
        if (head.id > 1000) /* room for so many units would be right, and slow */
            continue;
        sow_code rc = sow_parcels_take(&p, &m);
        assert_true(rc == SOW_OK || rc == SOW_ECOMM);
    }
    sow_parcels_fini(&p);
}

static void test_reader_gives_what_is_there_and_no_more(void **state)
{
    (void)state;
    sow_reader r = {.at = text, .end = text + 10};
    char out[10];
    assert_true(sow_reader_get(&r, out, 4));
    assert_memory_equal(out, text, 4);
    assert_false(sow_reader_get(&r, out, 7));
    assert_false(sow_reader_get(&r, NULL, SIZE_MAX));
    assert_ptr_equal(r.at, text + 4);
    assert_true(sow_reader_get(&r, NULL, 6));
    assert_true(sow_reader_get(&r, out, 0));
    assert_false(sow_reader_get(&r, out, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_in_order_make_the_whole),
        cmocka_unit_test(test_empty_parcel_is_whole),
        cmocka_unit_test(test_second_sender_takes_the_place_of_a_cut_one),
        cmocka_unit_test(test_missing_part_leaves_it_open),
        cmocka_unit_test(test_rounds_drop_the_earlier_and_begin_the_later),
        cmocka_unit_test(test_put_is_whole_at_once_and_counts_first),
        cmocka_unit_test(test_what_is_no_part_is_refused),
        cmocka_unit_test(test_any_bytes_are_taken_or_refused),
        cmocka_unit_test(test_reader_gives_what_is_there_and_no_more),
    };
    return cmocka_run_group_tests(tests, make_text, check_live_zero);
}
