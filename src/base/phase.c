/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/phase.h"

#include "sower/clock.h"
#include "sower/words.h"

#include <signal.h>
#include <stdbool.h>
#include <string.h>

static const char *const names[] = {
#define PHASE(name, text) text,
    SOW_PHASES(PHASE)
#undef PHASE
};

static _Atomic int own_word;
static _Atomic int *word = &own_word;
static double seconds[SOW_N_PHASES], entered_s;
static sow_phase charged = SOW_N_PHASES;

static void (*tick)(void *context);
static void *tick_context;
static bool is_ticking;

/* The fault of a test: raised when `phase` is entered for the `left`-th time. */
static struct {
    int phase, signal;
    int64_t left;
} fault;

const char *sow_phase_name(int phase)
{
    return phase >= 0 && phase < SOW_N_PHASES ? names[phase] : "unknown";
}

/* Whose the seconds are that pass now. */
static sow_phase payer(void)
{
    return charged < SOW_N_PHASES ? charged : (sow_phase)atomic_load(word);
}

static void settle(void)
{
    double now = sow_clock_now_s();
    if (entered_s > 0)
        seconds[payer()] += now - entered_s;
    entered_s = now;
}

void sow_phase_enter(sow_phase phase)
{
    settle();
    atomic_store(word, (int)phase);
    if (fault.left > 0 && fault.phase == (int)phase && --fault.left == 0)
        (void)raise(fault.signal);
}

sow_phase sow_phase_now(void)
{
    return (sow_phase)atomic_load(word);
}

double sow_phase_seconds(sow_phase phase)
{
    double running = payer() == phase && entered_s > 0 ? sow_clock_now_s() - entered_s : 0;
    return seconds[phase] + running;
}

void sow_phase_clear_times(void)
{
    memset(seconds, 0, sizeof seconds);
    entered_s = sow_clock_now_s();
}

void sow_phase_charge(sow_phase phase)
{
    settle();
    charged = phase;
}

void sow_phase_install_word(_Atomic int *shared)
{
    _Atomic int *next = shared != NULL ? shared : &own_word;
    atomic_store(next, atomic_load(word));
    word = next;
}

void sow_phase_install_tick(void (*function)(void *context), void *context)
{
    tick = function;
    tick_context = context;
}

void sow_phase_tick(void)
{
    if (tick == NULL || is_ticking)
        return;
    is_ticking = true;
    tick(tick_context);
    is_ticking = false;
}

static int find_phase(const char *name)
{
    for (int i = SOW_PHASE_PERTURB; i < SOW_N_PHASES; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

static int find_signal(const char *name)
{
    static const struct {
        const char *name;
        int number;
    } signals[] = {{"KILL", SIGKILL}, {"STOP", SIGSTOP}, {"TERM", SIGTERM}, {"ABRT", SIGABRT}, {"SEGV", SIGSEGV}};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (strcmp(signals[i].name, name) == 0)
            return signals[i].number;
    return -1;
}

/* Cuts `text` at colons into `parts`; returns how many there are (more than n: n + 1). */
static int cut(char *text, char **parts, int n)
{
    int found = 0;
    for (char *p = text; p != NULL && found <= n; found++) {
        char *colon = strchr(p, ':');
        if (found < n)
            parts[found] = p;
        if (colon != NULL)
            *colon++ = '\0';
        p = colon;
    }
    return found;
}

/* " start perturb ..."; the first cannot be asked for. */
#define PHASE(name, text) " " text
static const char all_phases[] = SOW_PHASES(PHASE);
#undef PHASE

sow_code sow_phase_set_fault(const char *text, int my_rank)
{
    char copy[64];
    char *parts[4] = {copy, copy, copy, copy};
    int64_t rank = -1, count = 0;
    fault.left = 0;
    if (text[0] == '\0')
        return SOW_OK;
    size_t bytes = strlen(text);
    if (bytes < sizeof copy)
        memcpy(copy, text, bytes + 1);
    if (bytes >= sizeof copy || cut(copy, parts, 4) != 4 || !sow_words_to_int(parts[0], &rank) || rank < 0 ||
        find_phase(parts[1]) < 0 || !sow_words_to_int(parts[2], &count) || count < 1 || find_signal(parts[3]) < 0)
        return SOW_FAIL(SOW_ECONF,
                        "run.fault: '%s' is not RANK:PHASE:COUNT:SIGNAL, expected a phase of%s and a signal of KILL, "
                        "STOP, TERM, ABRT, SEGV, e.g. 1:decode:3:KILL",
                        text, strchr(all_phases + 1, ' '));
    if (rank == my_rank) {
        fault.phase = find_phase(parts[1]);
        fault.signal = find_signal(parts[3]);
        fault.left = count;
    }
    return SOW_OK;
}
