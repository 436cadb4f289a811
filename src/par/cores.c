/* SPDX-License-Identifier: Apache-2.0 */
/* How many cores a rank may count as its own.  Ranks that were not bound all see all cores of their host; if each
 * started a thread for every core, they would spin against each other (measured: a generation of 0.05 s took 30). */
#define _GNU_SOURCE /* sched_getaffinity */
#include "par_impl.h"

#include "sower/alloc.h"

#include <sched.h>
#include <string.h>

enum { WORDS = 16 }; /* 1,024 processors */

typedef struct mask {
    uint64_t words[WORDS];
} mask;

/* The processors that this process may run on, and how many. */
static int read_mask(mask *out)
{
    int n = 0;
    cpu_set_t set;
    memset(out, 0, sizeof *out);
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    memcpy(out, &set, sizeof set < sizeof *out ? sizeof set : sizeof *out);
    for (int i = 0; i < WORDS; i++)
        n += __builtin_popcountll(out->words[i]);
    return n > 0 ? n : 1;
}

sow_code sow_world_cores(sow_world *w, int *out)
{
    mask mine, *all = NULL;
    int n = read_mask(&mine), sharers = 1;
    if (w->size > 1) {
        sow_code rc = SOW_ALLOC(&all, w->size);
        SOW_TRY(sow_world_agree(w, rc));
        rc = sow_par_gather_all(w, &mine, sizeof mine, all);
        sharers = 0;
        for (int r = 0; r < w->size; r++)
            sharers +=
                w->peers[r].host_first == w->peers[w->rank].host_first && memcmp(&all[r], &mine, sizeof mine) == 0;
        SOW_FREE(&all);
        SOW_TRY(rc);
    }
    *out = n / sharers > 1 ? n / sharers : 1;
    return SOW_OK;
}
