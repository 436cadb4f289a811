/* SPDX-License-Identifier: Apache-2.0 */
/* Exact sums over nodes: arrays of 64-bit integers, added by whoever takes part; no order, no tree can matter.
 *
 * Needs: world.  Threads: the first thread.
 *
 * After sow_world_seal, so a member may die in the middle: calls are nonblocking collectives on a communicator of the
 * members, polled with the deadline; on a timeout the communicator and its buffers are abandoned, never freed, and the
 * caller begins anew with other members and a higher epoch (design, section 5). */
#ifndef SOWER_EXACT_H
#define SOWER_EXACT_H

#include "sower/world.h"

typedef struct sow_exact sow_exact;

/* Not collective. */
SOW_NODISCARD sow_code sow_exact_create(sow_world *world, sow_exact **out);
void sow_exact_destroy(sow_exact **exact);

/* Collective over `members` (world ranks, ascending, this rank among them; all pass the same list and epoch; epochs
 * rise).  data [n] of every member becomes the sum over members; with one member it stays.  SOW_ECOMM naming the first
 * member that is silent or gone, within the deadline; data is then undefined, and the caller must not free it before
 * sow_world_stop (the abandoned call may still write into it: pieces go through this module's own buffer, so the
 * caller's data is free).  *overflows: a sum did not fit.  Shows life inside. */
SOW_NODISCARD sow_code sow_exact_sum(sow_exact *exact, const int *members, int n_members, int64_t epoch, int64_t *data,
                                     int64_t n, bool *overflows);

#endif
