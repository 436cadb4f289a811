/* SPDX-License-Identifier: Apache-2.0 */
/* Memory shared by the ranks of a node.
 *
 * Needs: mpi.h (in src/par only), world.  Threads: the memory is what it is: atomics or one writer.
 *
 * A window stays readable and writable after any rank that mapped it was killed.  Space in /dev/shm (or where MPI
 * keeps such memory) is checked before a window is made, and all pages are taken while it is made, so that a full one
 * is an error and never a SIGBUS.  Pages lie near the ranks: index i of the n ranks of a node takes the i-th of n
 * equal parts. */
#ifndef SOWER_WINDOW_H
#define SOWER_WINDOW_H

#include "sower/world.h"

typedef struct sow_window sow_window;

/* Collective.  `bytes` zeroed bytes shared by the ranks of this rank's node, 64-byte aligned.  All ranks pass the
 * same size, more than 0.  `what` names it in messages.  SOW_ENOMEM where the memory or the space is missing,
 * SOW_EPEER on the other ranks.  Between sow_world_cut and sow_world_seal.  A rank alone on its node gets memory of
 * its own. */
SOW_NODISCARD sow_code sow_window_create(sow_world *world, size_t bytes, const char *what, sow_window **out);
void *sow_window_data(const sow_window *window);
size_t sow_window_bytes(const sow_window *window);
/* Not collective; after a rank was lost too; before sow_world_stop, which gives shared memory back. */
void sow_window_destroy(sow_window **window);

#endif
