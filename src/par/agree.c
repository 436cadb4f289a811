/* SPDX-License-Identifier: Apache-2.0 */
/* All ranks learn whether one failed: the lowest rank that did passes its words to all. */
#include "par_impl.h"

#include <stdio.h>

typedef struct words {
    int32_t code;
    char text[1020];
} words;

static sow_code pass_words(sow_world *w, int from, words *said)
{
    SOW_TRY_MPI(MPI_Ibcast(said, (int)sizeof *said, MPI_BYTE, from, w->comm, &w->pending));
    return sow_par_wait(w, "an agreement", 0);
}

static sow_code find_lowest(sow_world *w, sow_code mine, int *lowest)
{
    int failed = mine == SOW_OK ? w->size : w->rank;
    SOW_TRY(sow_par_enter(w, "an agreement"));
    SOW_TRY_MPI(MPI_Iallreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MIN, w->comm, &w->pending));
    SOW_TRY(sow_par_wait(w, "an agreement", 0));
    *lowest = failed;
    return SOW_OK;
}

sow_code sow_world_agree(sow_world *w, sow_code mine)
{
    words said = {.code = (int32_t)mine};
    int lowest = w->size;
    if (mine != SOW_OK)
        (void)snprintf(said.text, sizeof said.text, "%s", sow_error_text());
    words own = said;
    if (w->size == 1)
        return mine;
    sow_code rc = find_lowest(w, mine, &lowest);
    if (rc == SOW_OK && lowest < w->size)
        rc = pass_words(w, lowest, &said);
    if (rc != SOW_OK) /* a failure of its own is what this rank has to tell */
        return mine == SOW_OK ? rc : SOW_FAIL(mine, "%s", own.text);
    if (lowest == w->size)
        return SOW_OK;
    w->agreed_status = sow_code_exit((sow_code)said.code);
    if (mine != SOW_OK)
        return mine;
    said.text[sizeof said.text - 1] = '\0';
    return SOW_FAIL(SOW_EPEER, "rank %d on %s: %s", lowest, w->peers[lowest].host, said.text);
}

int sow_world_exit_status(const sow_world *world, sow_code mine)
{
    return mine != SOW_OK && world->agreed_status != 0 ? world->agreed_status : sow_code_exit(mine);
}
