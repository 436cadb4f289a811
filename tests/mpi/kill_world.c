// NEEDS: par base
/* SPDX-License-Identifier: Apache-2.0 */
/* One way to die per run: kill_world SCENARIO, driven by kill_world.sh, which says what must come out.
 *
 * Under mpirun --enable-recovery the exit status tells nothing, so root (or the last to know) prints "verdict: pass".
 */
#include "sower/clock.h"
#include "sower/error.h"
#include "sower/phase.h"
#include "sower/window.h"
#include "sower/world.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TASK = 1, RESULT, STOP, WINDOW_OK, N_TASKS = 400, FATAL_TASK = 10 };
static const double deadline_s = 1;

static sow_world *world;
static int me, size, n_failed;

static void expect(bool is_right, const char *what)
{
    if (is_right)
        return;
    n_failed++;
    (void)printf("FAILED on rank %d: %s (%s)\n", me, what, sow_error_text());
}

static void verdict(void)
{
    (void)printf("verdict: %s\n", n_failed == 0 ? "pass" : "fail");
    (void)fflush(stdout);
}

static void cut_and_seal(int64_t per_node)
{
    expect(sow_world_cut(world, deadline_s, per_node) == SOW_OK, "cut");
    expect(sow_world_seal(world) == SOW_OK, "seal");
}

/* How a worker ends at its tenth task. */
typedef struct way {
    const char *name;
    size_t bytes;     /* of a result */
    int signal;       /* 0: it just does not answer any more */
    bool is_answered; /* it sends its result first */
    bool is_gone_at_once;
} way;

static const way ways[] = {
    {"killed", 8, SIGKILL, false, true},  {"answered", 8, SIGKILL, true, true},  {"middle", 4000, SIGKILL, true, true},
    {"crashed", 8, SIGSEGV, false, true}, {"stopped", 8, SIGSTOP, false, false}, {"mute", 8, 0, false, false},
};

static void die(const way *w)
{
    if (w->signal == SIGSEGV)
        (void)signal(SIGSEGV, SIG_DFL);
    if (w->signal != 0)
        (void)raise(w->signal);
    for (;;)
        sow_clock_sleep_s(1);
}

static void work(const way *w, bool is_victim)
{
    unsigned char data[SOW_MESSAGE_BYTES] = {0};
    for (int n = 0;;) {
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
        sow_phase_enter(SOW_PHASE_DECODE);
        sow_clock_sleep_s(1e-3);
        memcpy(data, m.data, m.bytes);
        bool is_last = is_victim && ++n == FATAL_TASK;
        if (is_last && !w->is_answered)
            die(w);
        expect(sow_world_send(world, 0, RESULT, data, w->bytes) == SOW_OK, "send");
        if (is_last)
            die(w);
        sow_phase_enter(SOW_PHASE_IDLE);
    }
}

/* Root's side: tasks go out one at a time to each, those of the lost go back. */
typedef struct farm {
    int held[64]; /* task of a rank, -1: none */
    int done[N_TASKS];
    int n_done, n_lost;
    double lost_s;
} farm;

static int next_task(const farm *f)
{
    for (int t = 0; t < N_TASKS; t++) {
        bool is_free = !f->done[t];
        for (int r = 1; r < size; r++)
            is_free = is_free && f->held[r] != t;
        if (is_free)
            return t;
    }
    return -1;
}

static void hand_out(farm *f)
{
    for (int r = 1; r < size; r++) {
        int t = sow_world_is_alive(world, r) && f->held[r] < 0 ? next_task(f) : -1;
        if (t < 0)
            continue;
        f->held[r] = t;
        expect(sow_world_send(world, r, TASK, &t, sizeof t) == SOW_OK, "send a task");
    }
}

static void take_back(farm *f, const way *w, double begun)
{
    for (int r = 1; r < size; r++) {
        if (!sow_world_is_alive(world, r) || sow_world_silence_s(world, r) < deadline_s)
            continue;
        expect(isinf(sow_world_silence_s(world, r)) == w->is_gone_at_once, "gone is infinite, silent is not");
        expect(sow_world_is_gone(world, r) == w->is_gone_at_once, "a stopped process is not gone");
        expect(sow_world_kill(world, r) == SOW_OK, "kill");
        expect(sow_world_is_gone(world, r), "gone after kill");
        sow_world_lose(world, r, "it is silent");
        f->held[r] = -1;
        f->n_lost++;
        f->lost_s = sow_clock_now_s() - begun;
    }
}

static void lead(const way *w, int n_victims)
{
    static farm f;
    double begun = sow_clock_now_s();
    for (int r = 0; r < 64; r++)
        f.held[r] = -1;
    while (f.n_done < N_TASKS) {
        sow_message m;
        bool has = false;
        hand_out(&f);
        expect(sow_world_poll(world, &m, &has) == SOW_OK && sow_world_pulse(world) == SOW_OK, "poll");
        if (has) {
            int t = 0;
            memcpy(&t, m.data, sizeof t);
            expect(m.tag == RESULT && f.held[m.from] == t && !f.done[t], "a result is of the task given");
            f.n_done++;
            f.done[t] = 1;
            f.held[m.from] = -1;
        } else {
            sow_clock_sleep_s(1e-4);
        }
        take_back(&f, w, begun);
        if (sow_clock_now_s() - begun > 30) {
            expect(false, "400 tasks in 30 s");
            break;
        }
    }
    while (f.n_lost < n_victims && sow_clock_now_s() - begun < 30) { /* one that died after its last answer */
        expect(sow_world_pulse(world) == SOW_OK, "pulse");
        take_back(&f, w, begun);
        sow_clock_sleep_s(1e-3);
    }
    expect(f.n_lost == n_victims && sow_world_n_alive(world) == size - n_victims, "as many lost as died");
    expect(!w->is_gone_at_once || f.lost_s < 0.8 * deadline_s, "a process that is gone is seen before the deadline");
    for (int r = 1; r < size; r++)
        expect(sow_world_send(world, r, STOP, NULL, 0) == SOW_OK, "send to a lost rank is no error");
    verdict();
}

static void run_farm(const way *w)
{
    int n_victims = size > 3 ? 2 : 1;
    cut_and_seal(0);
    if (me == 0)
        lead(w, n_victims);
    else
        work(w, me <= n_victims);
}

/* Two nodes of two: the rank that owns the second node's window dies, its mate goes on with it. */
static void run_window(void)
{
    enum { N = 1 << 20 };
    sow_window *window = NULL;
    sow_message m;
    bool has = false;
    expect(sow_world_cut(world, deadline_s, 2) == SOW_OK, "cut");
    expect(sow_window_create(world, N * sizeof(_Atomic int), "numbers", &window) == SOW_OK, "window");
    _Atomic int *data = sow_window_data(window);
    for (int i = me % 2; i < N; i += 2)
        atomic_store(&data[i], i);
    expect(sow_world_seal(world) == SOW_OK, "seal");
    if (me == 2)
        (void)raise(SIGKILL);
    if (me == 3) {
        while (!sow_world_is_gone(world, 2))
            sow_clock_sleep_s(1e-3);
        int n_wrong = 0;
        for (int i = 0; i < N; i++)
            n_wrong += atomic_load(&data[i]) != i;
        for (int i = 0; i < N; i++)
            atomic_store(&data[i], -i);
        for (int i = 0; i < N; i++)
            n_wrong += atomic_load(&data[i]) != -i;
        expect(sow_world_send(world, 0, WINDOW_OK, &n_wrong, sizeof n_wrong) == SOW_OK, "send");
    }
    if (me == 0) {
        for (double begun = sow_clock_now_s(); !has && sow_clock_now_s() - begun < 10; sow_clock_sleep_s(1e-3))
            expect(sow_world_poll(world, &m, &has) == SOW_OK, "poll");
        int n_wrong = -1;
        memcpy(&n_wrong, m.data, sizeof n_wrong);
        expect(has && m.from == 3 && n_wrong == 0, "memory of a dead rank is there");
        expect(isinf(sow_world_silence_s(world, 2)), "rank 2 is gone");
        sow_world_lose(world, 2, "it is gone");
        verdict();
    }
    sow_window_destroy(&window);
}

static void *scribble(void *argument)
{
    for (_Atomic long *cell = argument;;)
        atomic_fetch_add(cell, 1);
    return NULL;
}

/* A process with busy threads is killed: after sow_world_kill none of them writes any more. */
static void run_threads(void)
{
    enum { N = 4 };
    sow_window *window = NULL;
    expect(sow_world_cut(world, deadline_s, 0) == SOW_OK, "cut");
    expect(sow_window_create(world, N * sizeof(_Atomic long), "cells", &window) == SOW_OK, "window");
    _Atomic long *cells = sow_window_data(window);
    expect(sow_world_seal(world) == SOW_OK, "seal");
    if (me == 1) {
        pthread_t thread;
        for (int i = 0; i < N; i++)
            expect(pthread_create(&thread, NULL, scribble, (void *)&cells[i]) == 0, "thread");
        for (;;)
            sow_clock_sleep_s(1);
    }
    if (me == 0) {
        while (atomic_load(&cells[N - 1]) < 1000)
            sow_clock_sleep_s(1e-3);
        expect(sow_world_kill(world, 1) == SOW_OK, "kill");
        long before[N], n_moved = 0;
        for (int i = 0; i < N; i++)
            before[i] = atomic_load(&cells[i]);
        sow_clock_sleep_s(0.05);
        for (int i = 0; i < N; i++)
            n_moved += atomic_load(&cells[i]) != before[i];
        expect(n_moved == 0, "nothing is written after the end");
        sow_world_lose(world, 1, "it was ended");
        verdict();
    }
    sow_window_destroy(&window);
}

static void run_root(void)
{
    cut_and_seal(0);
    if (me == 0) {
        sow_clock_sleep_s(0.2);
        (void)raise(SIGKILL);
    }
    sow_code rc = SOW_OK;
    double begun = sow_clock_now_s();
    while (rc == SOW_OK && sow_clock_now_s() - begun < 5) {
        rc = sow_world_pulse(world);
        sow_clock_sleep_s(1e-3);
    }
    expect(rc == SOW_ECOMM && strstr(sow_error_text(), "is gone") != NULL, "a worker learns that root is gone");
    expect(sow_clock_now_s() - begun < deadline_s, "at once");
    if (me == size - 1)
        verdict();
}

static void run_silent_root(void)
{
    cut_and_seal(0);
    if (me == 0)
        sow_clock_sleep_s(5 * deadline_s);
    sow_code rc = SOW_OK;
    double begun = sow_clock_now_s();
    while (me != 0 && rc == SOW_OK && sow_clock_now_s() - begun < 10) {
        rc = sow_world_pulse(world);
        sow_clock_sleep_s(1e-3);
    }
    double waited = sow_clock_now_s() - begun;
    expect(me == 0 || rc == SOW_ECOMM, "a worker leaves a silent root");
    expect(me == 0 || (waited > 2.9 * deadline_s && waited < 3.5 * deadline_s), "after three deadlines");
    if (me == size - 1)
        verdict();
}

static double longest_silence_s(void)
{
    double longest = 0;
    for (int r = 1; r < size && me == 0; r++)
        longest = fmax(longest, sow_world_silence_s(world, r));
    return longest;
}

/* Nobody dies: all idle for some deadlines, then the whole job is suspended for two, and root, awake first, blames
 * nobody. */
static void run_idle(void)
{
    double longest = 0;
    cut_and_seal(0);
    for (double begun = sow_clock_now_s(); sow_clock_now_s() - begun < 3 * deadline_s; sow_clock_sleep_s(2e-3)) {
        expect(sow_world_pulse(world) == SOW_OK, "pulse");
        longest = fmax(longest, longest_silence_s());
    }
    expect(longest < 0.8 * deadline_s, "pulses are heard");
    sow_clock_sleep_s(2 * deadline_s + (me == 0 ? 0 : 0.3));
    for (double begun = sow_clock_now_s(); sow_clock_now_s() - begun < deadline_s; sow_clock_sleep_s(2e-3)) {
        expect(sow_world_pulse(world) == SOW_OK, "pulse");
        longest = fmax(longest, longest_silence_s());
    }
    expect(longest < 0.8 * deadline_s, "who was away blames nobody");
    if (me == 0)
        verdict();
}

/* The last rank does not come to a barrier. */
static void run_late(bool is_killed)
{
    char words[64];
    expect(sow_world_cut(world, deadline_s, 0) == SOW_OK, "cut");
    if (me == size - 1) {
        if (is_killed)
            (void)raise(SIGKILL);
        sow_clock_sleep_s(4 * deadline_s);
        sow_world_leave(world, 1);
    }
    double begun = sow_clock_now_s();
    sow_code rc = sow_world_barrier(world);
    double waited = sow_clock_now_s() - begun;
    (void)snprintf(words, sizeof words, "for rank %d on ", size - 1);
    expect(rc == SOW_ECOMM && strstr(sow_error_text(), words) != NULL, "the missing rank is named");
    expect(strstr(sow_error_text(), "(phase start") != NULL, "with its phase");
    expect((strstr(sow_error_text(), "process is gone") != NULL) == is_killed, "and whether it is gone");
    expect(waited > 0.9 * deadline_s && waited < 1.7 * deadline_s, "after the deadline");
    expect(sow_world_barrier(world) == SOW_ECOMM, "nothing collective works after that");
    (void)printf("%s\n", sow_error_text());
    sow_clock_sleep_s(0.5);
    if (me == 0)
        verdict();
    sow_world_leave(world, 1);
}

/* A worker dies, or is stopped, while the others are at the end: root ends with its own status, and soon. */
static void run_end(int number, unsigned limit_s)
{
    cut_and_seal(0);
    if (me == 1) {
        sow_clock_sleep_s(0.3);
        (void)raise(number);
    }
    if (me == 0)
        verdict();
    (void)alarm(limit_s); /* a rank that hangs is killed by it, and mpirun says so */
}

/* Ends that mpirun must report: run without recovery. */
static int run_status(const char *name)
{
    sow_code rc = SOW_OK;
    if (strcmp(name, "agreed") == 0) {
        rc = sow_world_agree(world, me == size - 1 ? SOW_FAIL(SOW_ECONF, "a wrong key") : SOW_OK);
        return sow_world_exit_status(world, rc);
    }
    if (strcmp(name, "alone") == 0) {
        if (me == size - 1)
            return 3;
        rc = sow_world_barrier(world);
        return sow_world_exit_status(world, rc);
    }
    cut_and_seal(0);
    if (strcmp(name, "alone_sealed") == 0 && me == size - 1)
        return 3;
    bool is_asked = false;
    for (double begun = sow_clock_now_s(); !is_asked && sow_clock_now_s() - begun < 5; sow_clock_sleep_s(1e-3)) {
        if (sow_world_pulse(world) != SOW_OK)
            return 1;
        is_asked = strcmp(name, "asked") != 0 || sow_world_signal(world) == SIGUSR1;
        if (strcmp(name, "alone_sealed") == 0)
            is_asked = false;
    }
    return !is_asked ? 4 : strcmp(name, "fine") == 0 ? 0 : 75;
}

int main(int argc, char **argv)
{
    if (argc != 2 || sow_world_start(&argc, &argv, &world) != SOW_OK)
        return 9;
    me = sow_world_rank(world);
    size = sow_world_size(world);
    const char *name = argv[1];
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (strcmp(ways[i].name, name) == 0) {
            run_farm(&ways[i]);
            name = "";
        }
    int status = 0;
    if (strcmp(name, "window") == 0)
        run_window();
    else if (strcmp(name, "threads") == 0)
        run_threads();
    else if (strcmp(name, "root") == 0)
        run_root();
    else if (strcmp(name, "silent_root") == 0)
        run_silent_root();
    else if (strcmp(name, "idle") == 0)
        run_idle();
    else if (strcmp(name, "late") == 0 || strcmp(name, "late_killed") == 0)
        run_late(strcmp(name, "late_killed") == 0);
    else if (strcmp(name, "end") == 0)
        run_end(SIGKILL, 3);
    else if (strcmp(name, "end_stopped") == 0)
        run_end(SIGSTOP, 3 * (unsigned)deadline_s + 3);
    else if (name[0] != '\0')
        status = run_status(name);
    if (n_failed > 0)
        status = 1;
    (void)fflush(stdout);
    sow_world_stop(&world, status);
    return status;
}
