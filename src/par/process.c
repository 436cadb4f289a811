/* SPDX-License-Identifier: Apache-2.0 */
/* Is a process of this host gone?
 *
 * /proc/PID/stat tells: no such file, or state Z or X.  A process that is stopped (T) or waits for a disk (D) is not
 * gone, only silent.  The leader of a killed process turns to Z while its other threads may still run for a moment,
 * so a zombie counts from the moment on when its threads are no more than one: only then can it write no more into
 * shared memory.  The start time tells a process from a later one that was given the same number. */
#include "par_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct sow_process {
    bool is_there;
    char state;
    int64_t user, system; /* CPU time, clock ticks */
    int64_t n_threads, started;
} sow_process;

/* Fields 3 (state), 14, 15 (CPU time), 20 (threads) and 22 (start time) of the line, counted from 1; the name in field
 * 2 may hold anything, even ") Z". */
static bool parse(const char *line, sow_process *out)
{
    enum { STATE = 3, USER = 14, SYSTEM, THREADS = 20, STARTED = 22 };
    const char *at = strrchr(line, ')');
    int64_t field[STARTED + 1] = {0};
    if (at == NULL || at[1] != ' ' || at[2] == '\0')
        return false;
    out->state = at[2];
    at += 3;
    for (int i = STATE + 1; i <= STARTED; i++) {
        char *end = NULL;
        field[i] = strtoll(at, &end, 10);
        if (end == at)
            return false;
        at = end;
    }
    out->user = field[USER];
    out->system = field[SYSTEM];
    out->n_threads = field[THREADS];
    out->started = field[STARTED];
    return true;
}

/* False where /proc does not tell. */
static bool look(int64_t pid, sow_process *out)
{
    char path[40], line[1024];
    *out = (sow_process){.is_there = true};
    (void)snprintf(path, sizeof path, "/proc/%" PRId64 "/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        out->is_there = !(errno == ENOENT && kill((pid_t)pid, 0) != 0 && errno == ESRCH);
        return !out->is_there;
    }
    ssize_t n = read(fd, line, sizeof line - 1);
    int read_errno = errno;
    (void)close(fd);
    if (n < 0) {
        out->is_there = read_errno != ESRCH;
        return !out->is_there;
    }
    line[n] = '\0';
    return parse(line, out);
}

int64_t sow_par_process_started(int64_t pid)
{
    sow_process p;
    return look(pid, &p) && p.is_there ? p.started : 0;
}

int64_t sow_par_process_space(void)
{
    struct stat st;
    return stat("/proc/self/ns/pid", &st) == 0 ? (int64_t)st.st_ino : 0;
}

bool sow_par_process_is_gone(int64_t pid, int64_t started)
{
    sow_process p;
    if (pid <= 0 || !look(pid, &p))
        return false;
    if (!p.is_there)
        return true;
    bool is_dead = (p.state == 'Z' || p.state == 'X' || p.state == 'x') && p.n_threads <= 1;
    return is_dead || (started != 0 && p.started != started);
}

bool sow_par_process_works(int64_t pid, int64_t *cpu_seen)
{
    enum { TICKS = 2 }; /* a thread that only watches takes less in a minute */
    sow_process p;
    if (pid <= 0 || !look(pid, &p) || !p.is_there)
        return false;
    int64_t cpu = p.user + p.system;
    bool has_computed = cpu - *cpu_seen >= TICKS;
    if (has_computed)
        *cpu_seen = cpu;
    return has_computed || p.state == 'D';
}
