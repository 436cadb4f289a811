// NEEDS: par base
/* SPDX-License-Identifier: Apache-2.0 */
/* Members of a sum die in the middle of it: kill_exact SCENARIO, driven by kill_exact.sh, which says what must come
 * out.
 *
 *     round     root names the members and the first epoch; they add until one of them fails, and report
 *     then      root loses whoever is gone or silent, and begins a round with those who are left
 *
 * Under mpirun --enable-recovery the exit status tells nothing, so root prints "verdict: pass". */
#include "sower/alloc.h"
#include "sower/clock.h"
#include "sower/error.h"
#include "sower/exact.h"
#include "sower/phase.h"
#include "sower/world.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { GO = 1, REPORT, STOP, MOST = 8, N = 300001, FEW = 5, FOREVER = 1 << 30 };
static const double deadline_s = 1;

typedef struct scenario {
    const char *name;
    int n_victims, signal;
    bool is_before, is_aside; /* victims die before they add; root does not take part */
    double late_s;            /* the last member that is no victim comes so late */
    bool is_apart;            /* members give up at different epochs */
    bool is_woken;            /* victims are not killed: they wake when the others are through */
} scenario;

static const scenario scenarios[] = {
    {"fine", 0, 0, false, false, 0, false, false},
    {"killed", 1, SIGKILL, false, false, 0, false, false},
    {"before", 1, SIGKILL, true, false, 0, false, false},
    {"two", 2, SIGKILL, false, false, 0, false, false},
    {"stopped", 1, SIGSTOP, false, false, 0, false, false},
    {"told", 1, SIGSTOP, true, false, 0.6, false,
     false}, /* the others have waited for a deadline before the late one has */
    {"aside_killed", 1, SIGKILL, false, true, 0, false, false},
    {"aside_stopped", 1, SIGSTOP, true, true, 0, false, false},
    {"aside_apart", 1, SIGSTOP, true, true, 0, true, false},
    {"aside_late", 0, 0, false, true, 3, false, false},
    {"woken", 1, SIGSTOP, false, false, 0, false, true},
    {"speed", 0, 0, false, false, 0, false, false},
};

typedef struct go {
    int64_t epoch, n_sums;
    int32_t n_members, members[MOST];
} go;

typedef struct report {
    int32_t code, n_failed;
} report;

static const scenario *how;
static sow_world *world;
static sow_exact *exact;
static int64_t *data;
static int me, size, n_failed;
static int64_t pids[MOST];  /* root */
static bool is_aside[MOST]; /* root: stopped, to be woken */

static void expect(bool is_right, const char *what)
{
    if (is_right)
        return;
    n_failed++;
    (void)printf("FAILED on rank %d: %s (%s)\n", me, what, sow_error_text());
}

/* Victims are the last ranks. */
static bool is_victim(int rank)
{
    return rank >= size - how->n_victims;
}

static bool is_late(int rank)
{
    return how->late_s > 0 && rank == size - 1 - how->n_victims;
}

static int64_t number(int rank, int64_t epoch, int64_t i)
{
    return (int64_t)((uint64_t)(i + epoch * 7919) * 0x9E3779B97F4A7C15U * (uint64_t)(rank + 1)) / 8;
}

static void *end_soon(void *argument)
{
    const double *after_s = argument;
    sow_clock_sleep_s(*after_s);
    (void)kill(getpid(), how->signal);
    return NULL;
}

/* Victims die from a millisecond on, some of them at the very beginning of a sum, others while it goes on. */
static void begin_dying(void)
{
    static double after_s;
    static pthread_t thread;
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    after_s = how->is_before ? 0 : 1e-3 + (double)(now.tv_nsec / 1000 % 60000) * 1e-6 + (me == size - 1 ? 0 : 0.05);
    expect(pthread_create(&thread, NULL, end_soon, &after_s) == 0, "thread");
    if (how->is_before)
        sow_clock_sleep_s(4 * deadline_s);
}

/* The message names a victim, its host and its phase; without a control window a phase that was not heard of yet is the
 * first. */
static bool names_victim(void)
{
    char words[128];
    const bool has_window = getenv("OMPI_MCA_osc_sm_backing_directory") == NULL;
    for (int r = 0; r < size; r++) {
        (void)snprintf(words, sizeof words, "for rank %d on %s (phase %s", r, sow_world_host(world, r),
                       has_window && !how->is_before ? "update" : "");
        if (is_victim(r) && strstr(sow_error_text(), words) != NULL)
            return true;
    }
    return false;
}

static void check_sum(const go *g, int64_t epoch)
{
    int64_t n_wrong = 0;
    for (int64_t i = 0; i < N; i++) {
        int64_t sum = 0;
        for (int k = 0; k < g->n_members; k++)
            sum += number(g->members[k], epoch, i);
        n_wrong += data[i] != sum;
    }
    expect(n_wrong == 0, "sums equal the serial ones");
}

/* A round as a member. */
static report add(const go *g)
{
    sow_code rc = SOW_OK;
    for (int64_t k = 0; k < g->n_sums && rc == SOW_OK; k++) {
        const int64_t epoch = g->epoch + k;
        bool overflows = true;
        for (int64_t i = 0; i < N; i++)
            data[i] = number(me, epoch, i);
        sow_phase_enter(SOW_PHASE_UPDATE);
        double begun = sow_clock_now_s(), waited_s = 0;
        rc = sow_exact_sum(exact, g->members, g->n_members, epoch, data, N, &overflows);
        waited_s = sow_clock_now_s() - begun;
        if (rc == SOW_OK) {
            check_sum(g, epoch);
            expect(!overflows, "no overflow");
            continue;
        }
        expect(rc == SOW_ECOMM && names_victim(), "the lost member is named");
        /* a deadline counts only time in which this rank listened: more on a busy machine */
        expect(waited_s < 4 * deadline_s || is_victim(me), "within the deadline");
        expect(!is_late(me) || strstr(sow_error_text(), "gave up the sum") != NULL, "who came late is told");
        (void)printf("after %lld sums and %.3f s: %s\n", (long long)k, waited_s, sow_error_text());
    }
    sow_phase_enter(SOW_PHASE_IDLE);
    return (report){.code = (int32_t)rc, .n_failed = n_failed};
}

/* The last but one adds with the victim alone; the others are an epoch further, and wait for both. */
static void go_apart(go *g)
{
    if (me != size - 2) {
        g->epoch++;
        return;
    }
    g->n_members = 2;
    g->members[0] = size - 2;
    g->members[1] = size - 1;
}

static void work(void)
{
    for (;;) {
        sow_message m;
        bool has = false;
        if (sow_world_poll(world, &m, &has) != SOW_OK || sow_world_pulse(world) != SOW_OK) {
            expect(false, "a worker lost root");
            return;
        }
        if (!has) {
            sow_clock_sleep_s(1e-4);
            continue;
        }
        if (m.tag == STOP)
            return;
        go g;
        memcpy(&g, m.data, sizeof g);
        if (is_victim(me))
            begin_dying();
        if (how->is_apart && g.n_members == size - 1)
            go_apart(&g);
        for (double begun = sow_clock_now_s(); is_late(me) && sow_clock_now_s() - begun < how->late_s;) {
            sow_phase_tick();
            sow_clock_sleep_s(1e-2);
        }
        const report r = add(&g);
        expect(sow_world_send(world, 0, REPORT, &r, sizeof r) == SOW_OK, "send");
    }
}

/* Loses a member that is gone, or silent for the deadline. */
static bool lose(int rank)
{
    if (sow_world_silence_s(world, rank) <= deadline_s)
        return false;
    expect(is_victim(rank), "only victims are lost");
    is_aside[rank] = how->is_woken;
    if (how->is_woken)
        return true;
    expect(sow_world_kill(world, rank) == SOW_OK, "kill");
    sow_world_lose(world, rank, "it is silent");
    return true;
}

/* Root's part of a round after it has added itself: whether all members reported success. */
static bool collect(const go *g, report mine, int *n_lost)
{
    bool has_reported[MOST] = {[0] = true}, is_fine = mine.code == SOW_OK;
    int n_missing = g->n_members - (g->members[0] == 0);
    for (double begun = sow_clock_now_s(); n_missing > 0; sow_clock_sleep_s(1e-4)) {
        sow_message m;
        bool has = false;
        expect(sow_world_poll(world, &m, &has) == SOW_OK && sow_world_pulse(world) == SOW_OK, "poll");
        if (has) {
            report r;
            memcpy(&r, m.data, sizeof r);
            has_reported[m.from] = true;
            is_fine = is_fine && r.code == SOW_OK;
            n_failed += r.n_failed;
            n_missing--;
        }
        for (int k = 0; k < g->n_members; k++) {
            const int rank = g->members[k];
            if (has_reported[rank] || is_aside[rank] || !sow_world_is_alive(world, rank) || !lose(rank))
                continue;
            ++*n_lost;
            n_missing--;
            is_fine = false;
        }
        if (sow_clock_now_s() - begun > 20) {
            expect(false, "members report within 20 s");
            return true;
        }
    }
    return is_fine;
}

/* The others are through with the sum in which this rank was stopped, and with more: it is told, and comes back. */
static void wake(int rank)
{
    report r = {.code = SOW_OK};
    bool has = false;
    expect(kill((pid_t)pids[rank], SIGCONT) == 0, "wake");
    for (double begun = sow_clock_now_s(); !has && sow_clock_now_s() - begun < 20; sow_clock_sleep_s(1e-3)) {
        sow_message m;
        expect(sow_world_poll(world, &m, &has) == SOW_OK && sow_world_pulse(world) == SOW_OK, "poll");
        if (has)
            memcpy(&r, m.data, sizeof r);
    }
    expect(has && r.code == SOW_ECOMM, "who wakes in a sum that was given up comes back");
    n_failed += r.n_failed;
}

static void lead(void)
{
    int n_lost = 0;
    bool is_fine = false;
    /* Rounds are as far apart as makes tags come round again. */
    for (int64_t epoch = 1; !is_fine && epoch < 9 * (int64_t)FOREVER; epoch += FOREVER) {
        go g = {.epoch = epoch, .n_sums = n_lost < how->n_victims ? FOREVER : FEW};
        for (int r = how->is_aside; r < size; r++)
            if (sow_world_is_alive(world, r) && !is_aside[r])
                g.members[g.n_members++] = r;
        for (int k = 0; k < g.n_members; k++)
            if (g.members[k] != 0)
                expect(sow_world_send(world, g.members[k], GO, &g, sizeof g) == SOW_OK, "send");
        const report mine = how->is_aside ? (report){.code = SOW_OK} : add(&g);
        is_fine = collect(&g, mine, &n_lost);
    }
    expect(is_fine && n_lost == how->n_victims, "as many lost as died");
    expect(sow_world_n_alive(world) == size - (how->is_woken ? 0 : n_lost), "the others are alive");
    for (int r = 1; r < size; r++)
        if (is_aside[r])
            wake(r);
    for (int r = 1; r < size; r++)
        expect(sow_world_send(world, r, STOP, NULL, 0) == SOW_OK, "send");
    (void)printf("verdict: %s\n", n_failed == 0 ? "pass" : "fail");
    (void)fflush(stdout);
}

/* For people: all ranks add 64 MiB. */
static void tell_speed(void)
{
    enum { LARGE = 8 << 20, TIMES = 10 };
    int members[MOST];
    int64_t *numbers = NULL;
    double best_s = 1e9;
    bool overflows = false;
    expect(SOW_ALLOC(&numbers, LARGE) == SOW_OK, "memory");
    for (int r = 0; r < size; r++)
        members[r] = r;
    for (int k = 0; k < TIMES && n_failed == 0; k++) {
        expect(sow_exact_sum(exact, members, size, 2 * k, numbers, 0, &overflows) == SOW_OK, "start");
        double begun = sow_clock_now_s();
        expect(sow_exact_sum(exact, members, size, 2 * k + 1, numbers, LARGE, &overflows) == SOW_OK, "sum");
        double waited_s = sow_clock_now_s() - begun;
        best_s = waited_s < best_s ? waited_s : best_s;
    }
    if (me == 0)
        (void)printf("%d ranks: 64 MiB in %.1f ms, %.0f million numbers/s\n", size, best_s * 1e3, LARGE / best_s / 1e6);
    SOW_FREE(&numbers);
}

int main(int argc, char **argv)
{
    if (argc != 2 || sow_world_start(&argc, &argv, &world) != SOW_OK)
        return 9;
    me = sow_world_rank(world);
    size = sow_world_size(world);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        if (strcmp(scenarios[i].name, argv[1]) == 0)
            how = &scenarios[i];
    if (how == NULL || size > MOST)
        return 9;
    expect(sow_world_cut(world, deadline_s, 1) == SOW_OK, "cut");
    expect(sow_exact_create(world, &exact) == SOW_OK && SOW_ALLOC(&data, N) == SOW_OK, "create");
    const int64_t pid = getpid();
    expect(sow_world_gather(world, &pid, sizeof pid, pids) == SOW_OK, "gather");
    expect(sow_world_seal(world) == SOW_OK, "seal");
    if (strcmp(how->name, "speed") == 0)
        tell_speed();
    else if (me == 0)
        lead();
    else
        work();
    SOW_FREE(&data);
    sow_exact_destroy(&exact);
    (void)fflush(stdout);
    sow_world_stop(&world, n_failed > 0);
    return n_failed > 0;
}
