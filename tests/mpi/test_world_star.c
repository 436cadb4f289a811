// NEEDS: par base
// RANKS: 1 2 3 4
/* SPDX-License-Identifier: Apache-2.0 */
/* The star: messages between root and workers in a sealed world, and what ranks see of each other. */
#include "ranks.h"

#include "sower/phase.h"

#include <signal.h>

enum { ECHO = 1, STOP = 2, HOLD = 3 };

static int me, size;

/* Workers send back what comes until root says stop. */
static void serve(void)
{
    for (;;) {
        sow_message m;
        assert_true(ranks_receive(&m));
        assert_int_equal(m.from, 0);
        if (m.tag == STOP)
            return;
        if (m.tag == HOLD) /* busy without listening, so that messages pile up */
            sow_clock_sleep_s(1);
        CHECK_OK(sow_world_send(world, 0, m.tag, m.data, m.bytes));
    }
}

static void stop_workers(void)
{
    for (int r = 1; r < size; r++)
        CHECK_OK(sow_world_send(world, r, STOP, NULL, 0));
}

static void fill(unsigned char *data, size_t bytes, int64_t number, int rank)
{
    memset(data, (int)((number * 31 + rank) & 0xff), bytes);
    if (bytes >= sizeof number)
        memcpy(data, &number, sizeof number);
}

/* `n` messages to each worker, `window` of them under way at a time; replies must come whole and in order. */
static void echo(int64_t n, int64_t window)
{
    int64_t sent[8] = {0}, received[8] = {0}, open = (size - 1) * n;
    unsigned char want[SOW_MESSAGE_BYTES], data[SOW_MESSAGE_BYTES];
    while (open > 0) {
        for (int r = 1; r < size; r++)
            while (sent[r] < n && sent[r] - received[r] < window) {
                size_t bytes = sent[r] % 10 == 9 ? SOW_MESSAGE_BYTES : (size_t)(sent[r] % 64);
                fill(data, bytes, sent[r]++, r);
                CHECK_OK(sow_world_send(world, r, ECHO, data, bytes));
            }
        sow_message m;
        assert_true(ranks_receive(&m));
        int64_t number = received[m.from]++;
        size_t bytes = number % 10 == 9 ? SOW_MESSAGE_BYTES : (size_t)(number % 64);
        fill(want, bytes, number, m.from);
        assert_int_equal(m.tag, ECHO);
        assert_int_equal(m.bytes, bytes);
        assert_memory_equal(m.data, want, bytes);
        open--;
    }
}

static void test_star_echoes_come_whole_and_in_order(void **state)
{
    (void)state;
    if (me != 0) {
        serve();
        return;
    }
    sow_traffic before = sow_world_traffic(world);
    echo(3000, 20);
    sow_traffic after = sow_world_traffic(world);
    assert_in_range(after.messages_sent - before.messages_sent, 3000 * (size - 1), 3000 * (size - 1) + 200);
    assert_in_range(after.messages_received - before.messages_received, 3000 * (size - 1), 3000 * (size - 1) + 200);
    assert_true(size == 1 || after.bytes_sent - before.bytes_sent > 300 * (size - 1) * SOW_MESSAGE_BYTES);
    stop_workers();
}

static void test_star_receiver_busy_sender_goes_on(void **state)
{
    (void)state;
    if (me != 0) {
        serve();
        return;
    }
    for (int r = 1; r < size; r++)
        CHECK_OK(sow_world_send(world, r, HOLD, NULL, 0));
    double begun = sow_clock_now_s();
    unsigned char data[SOW_MESSAGE_BYTES] = {1};
    for (int i = 0; i < 500; i++)
        for (int r = 1; r < size; r++)
            CHECK_OK(sow_world_send(world, r, ECHO, data, sizeof data));
    assert_true(size == 1 || sow_clock_now_s() - begun < 0.9);
    for (int i = 0; i < 501 * (size - 1); i++) {
        sow_message m;
        assert_true(ranks_receive(&m));
    }
    stop_workers();
}

static void test_star_steps_after_the_first_allocate_nothing(void **state)
{
    (void)state;
    if (me != 0) {
        serve();
        return;
    }
    echo(100, 1);
    int64_t taken = sow_alloc_taken();
    echo(100, 1);
    assert_in_range(sow_alloc_taken() - taken, 0, 2); /* a pulse may have met a letter under way */
    stop_workers();
}

static void test_pulse_of_a_busy_rank_is_life(void **state)
{
    (void)state;
    if (me != 0) {
        sow_phase_enter(SOW_PHASE_DECODE);
        for (double begun = sow_clock_now_s(); sow_clock_now_s() - begun < 1.2; sow_clock_sleep_s(0.005))
            CHECK_OK(sow_world_pulse(world));
        sow_phase_enter(SOW_PHASE_IDLE);
        serve();
        return;
    }
    double longest = 0;
    int n_decode = 0;
    for (double begun = sow_clock_now_s(); sow_clock_now_s() - begun < 1; sow_clock_sleep_s(0.005)) {
        CHECK_OK(sow_world_pulse(world));
        for (int r = 1; r < size; r++) {
            longest = fmax(longest, sow_world_silence_s(world, r));
            n_decode += sow_world_phase_of(world, r) == SOW_PHASE_DECODE;
        }
    }
    assert_true(longest < sow_world_deadline_s(world) / 2);
    assert_true(size == 1 || n_decode > 5);
    assert_true(sow_world_silence_s(world, 0) == 0);
    assert_int_equal(sow_world_n_alive(world), size);
    stop_workers();
}

/* Root does not listen for a second: nobody is blamed for it. */
static void test_silence_of_others_after_own_absence_is_small(void **state)
{
    (void)state;
    if (me != 0) {
        serve();
        return;
    }
    sow_clock_sleep_s(1.5);
    CHECK_OK(sow_world_pulse(world));
    for (int r = 1; r < size; r++) {
        assert_true(sow_world_silence_s(world, r) < sow_world_deadline_s(world) / 2);
        assert_false(sow_world_is_gone(world, r));
    }
    stop_workers();
}

static void test_signal_is_recorded_and_term_outranks_usr1(void **state)
{
    (void)state;
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(sow_world_signal(world), SIGUSR1);
    assert_int_equal(raise(SIGTERM), 0);
    assert_int_equal(sow_world_signal(world), SIGTERM);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(sow_world_signal(world), SIGTERM);
    assert_int_equal(raise(SIGPIPE), 0);
}

int main(int argc, char **argv)
{
    if (!ranks_begin(&argc, &argv))
        return 1;
    me = sow_world_rank(world);
    size = sow_world_size(world);
    sow_code rc = sow_world_cut(world, 2, 0);
    if (rc == SOW_OK)
        rc = sow_world_seal(world);
    if (rc != SOW_OK) {
        (void)fprintf(stderr, "%s\n", sow_error_text());
        sow_world_stop(&world, 1);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_star_echoes_come_whole_and_in_order),
        cmocka_unit_test(test_star_receiver_busy_sender_goes_on),
        cmocka_unit_test(test_star_steps_after_the_first_allocate_nothing),
        cmocka_unit_test(test_pulse_of_a_busy_rank_is_life),
        cmocka_unit_test(test_silence_of_others_after_own_absence_is_small),
        cmocka_unit_test(test_signal_is_recorded_and_term_outranks_usr1),
    };
    return ranks_end(cmocka_run_group_tests(tests, NULL, NULL), true);
}
