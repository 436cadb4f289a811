/* SPDX-License-Identifier: Apache-2.0 */
/* How this program was built.
 *
 * Needs: nothing.  Threads: constants. */
#ifndef SOWER_BUILD_H
#define SOWER_BUILD_H

const char *sow_build_version(void);  /* "0.1.0" */
const char *sow_build_commit(void);   /* git's short hash at configure time, "unknown" outside a repository */
const char *sow_build_compiler(void); /* "gcc 12.2.0" */
const char *sow_build_type(void);     /* "Release" */

#endif
