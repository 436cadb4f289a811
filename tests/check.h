/* SPDX-License-Identifier: Apache-2.0 */
/* What every test file includes first: cmocka with what it needs, and a few words of our own.
 *
 * A test is `static void test_WHAT_WHEN_THEN(void **state)`.  `check_live_zero` as a group's teardown fails it if a
 * block is
 * alive.  Optional inputs (../shared) are found by check_shared(); a test that misses one says what it skipped and
 * calls skip(). */
#ifndef SOWER_TESTS_CHECK_H
#define SOWER_TESTS_CHECK_H

/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "sower/alloc.h"
#include "sower/error.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK_OK(call)                                                                                                 \
    do {                                                                                                               \
        sow_code check_rc_ = (call);                                                                                   \
        if (check_rc_ != SOW_OK)                                                                                       \
            fail_msg("%s: %s (%s)", #call, sow_error_text(), sow_error_where());                                       \
    } while (0)

/* The call fails with `code` and its message holds `words`. */
#define CHECK_FAILS(call, code, words)                                                                                 \
    do {                                                                                                               \
        sow_code check_rc_ = (call);                                                                                   \
        if (check_rc_ != (code))                                                                                       \
            fail_msg("%s: code %d, expected %d (%s)", #call, (int)check_rc_, (int)(code), sow_error_text());           \
        if (strstr(sow_error_text(), (words)) == NULL)                                                                 \
            fail_msg("%s: message '%s' lacks '%s'", #call, sow_error_text(), (words));                                 \
    } while (0)

#define CHECK_NEAR(got, want, tolerance)                                                                               \
    do {                                                                                                               \
        double check_g_ = (got), check_w_ = (want), check_t_ = (tolerance);                                            \
        if (!(fabs(check_g_ - check_w_) <= check_t_))                                                                  \
            fail_msg("%s: got %.9g, expected %.9g +- %.3g", #got, check_g_, check_w_, check_t_);                       \
    } while (0)

static inline int check_live_zero(void **state)
{
    (void)state;
    if (sow_alloc_live() != 0)
        (void)fprintf(stderr, "%lld blocks are still alive\n", (long long)sow_alloc_live());
    return sow_alloc_live() == 0 ? 0 : -1;
}

/* Path of a file in the shared folder beside the checkout, or NULL after saying that it is not there.  Static buffer.
 * */
static inline const char *check_shared(const char *name)
{
    static char path[1024];
    (void)snprintf(path, sizeof path, "%s/../shared/%s", SOW_SOURCE_DIR, name);
    if (access(path, R_OK) == 0)
        return path;
    (void)fprintf(stderr, "SKIP: no ../shared/%s\n", name);
    return NULL;
}

/* A new empty folder for this test under the temporary directory.  Static buffer. */
static inline const char *check_folder(void)
{
    static char path[64];
    (void)snprintf(path, sizeof path, "/tmp/sower-test-XXXXXX");
    assert_non_null(mkdtemp(path));
    return path;
}

#endif
