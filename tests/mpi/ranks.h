/* SPDX-License-Identifier: Apache-2.0 */
/* What a test at several ranks begins and ends with: one world for the program, and one verdict on all ranks. */
#ifndef SOWER_TESTS_RANKS_H
#define SOWER_TESTS_RANKS_H

#include "check.h"

#include "sower/clock.h"
#include "sower/world.h"

static sow_world *world;

static inline bool ranks_begin(int *argc, char ***argv)
{
    if (sow_world_start(argc, argv, &world) == SOW_OK)
        return true;
    (void)fprintf(stderr, "sow_world_start: %s\n", sow_error_text());
    return false;
}

/* Waits for the next message at most ten seconds. */
static inline bool ranks_receive(sow_message *message)
{
    bool has = false;
    for (double begun = sow_clock_now_s(); !has && sow_clock_now_s() - begun < 10;) {
        if (sow_world_poll(world, message, &has) != SOW_OK || sow_world_pulse(world) != SOW_OK)
            return false;
        if (!has)
            sow_clock_sleep_s(1e-4);
    }
    return has;
}

/* Failures of all ranks through the star, for a sealed world: workers tell root, root tells them. */
static inline int ranks_sum(int failures)
{
    enum { TELL = 31000, TOLD };
    sow_message m;
    int total = failures, n = sow_world_size(world), one = 0;
    if (sow_world_rank(world) != 0)
        return sow_world_send(world, 0, TELL, &failures, sizeof failures) == SOW_OK && ranks_receive(&m) &&
                       m.tag == TOLD
                   ? *(const int *)(const void *)m.data
                   : 1;
    for (int i = 1; i < n; i++) {
        bool has = ranks_receive(&m) && m.tag == TELL;
        memcpy(&one, m.data, sizeof one);
        total += has ? one : 1;
    }
    for (int r = 1; r < n; r++)
        if (sow_world_send(world, r, TOLD, &total, sizeof total) != SOW_OK)
            total++;
    return total;
}

/* The exit status of the program, the same on all ranks: 1 if a test failed on any, or a block is still alive. */
static inline int ranks_end(int failures, bool is_sealed)
{
    sow_code mine = SOW_OK;
    if (is_sealed)
        failures = ranks_sum(failures);
    else
        mine = sow_world_agree(world, failures == 0 ? SOW_OK : SOW_FAIL(SOW_ENUM, "%d tests failed", failures));
    int status = failures != 0 || mine != SOW_OK;
    sow_world_stop(&world, status);
    return status != 0 || check_live_zero(NULL) != 0;
}

#endif
