/* SPDX-License-Identifier: Apache-2.0 */
/* A file that one process at a time holds: who goes on with a run that is still at work is told so.
 *
 * Needs: error, alloc.  Threads: one object, one thread.  Ranks: knows none.
 * Record locks of POSIX (fcntl): they end with the process however it ends, and other machines see them as far as their
 * file system shares locks. */
#ifndef SOWER_LOCK_H
#define SOWER_LOCK_H

#include "sower/error.h"

typedef struct sow_lock sow_lock;

/* Holds `path`, which is made and gets this machine's name and the process's number.  SOW_ECONF naming the holder if
 * it is held already.  *out is NULL where nothing can be held: a file that cannot be written, a file system without
 * locks. */
SOW_NODISCARD sow_code sow_lock_take(const char *path, sow_lock **out);
/* Lets go; the file stays.  NULL is fine. */
void sow_lock_release(sow_lock **lock);

/* What can be known of a lock.  FREE is certain: the last holder was on this machine and does not hold it any more. */
typedef enum sow_lock_state { SOW_LOCK_UNKNOWN, SOW_LOCK_HELD, SOW_LOCK_FREE } sow_lock_state;
sow_lock_state sow_lock_look(const char *path);

#endif
