/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: one table of codes, and one message that says what a person needs to know.
 *
 * Needs: libc only.  Threads: the last error is kept per thread.  Ranks: knows none.
 *
 * The place that detects a failure writes the message with SOW_FAIL: where (file, line or key), the value found, and
 * what would be right, in lower case and on one line.  Every place above passes the code on with SOW_TRY. */
#ifndef SOWER_ERROR_H
#define SOWER_ERROR_H

#include <stddef.h>
#include <stdint.h>

/* Every code a function of ours can return, the exit status it ends in, and its words. */
/* clang-format off */
#define SOW_CODES(CODE)                                                    \
    CODE(SOW_OK,      0,  "success")                                       \
    CODE(SOW_EARG,    2,  "a wrong argument")                              \
    CODE(SOW_ECONF,   2,  "the configuration is wrong")                    \
    CODE(SOW_EIO,     1,  "a file could not be read or written")           \
    CODE(SOW_EFORMAT, 1,  "a file is not in the format it claims")         \
    CODE(SOW_ENOMEM,  1,  "out of memory")                                 \
    CODE(SOW_ENUM,    1,  "a number is not finite or out of range")        \
    CODE(SOW_EBITS,   1,  "two computations that must agree differ")       \
    CODE(SOW_ECOMM,   1,  "a rank does not answer or an MPI call failed")  \
    CODE(SOW_EPEER,   1,  "another rank failed")                           \
    CODE(SOW_ESTOP,   75, "stopped in good order")
/* clang-format on */

typedef enum sow_code {
#define CODE(name, exit_status, words) name,
    SOW_CODES(CODE)
#undef CODE
        SOW_N_CODES
} sow_code;

#define SOW_NODISCARD         __attribute__((warn_unused_result))
#define SOW_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* The words for `code`; never NULL.  Static storage. */
const char *sow_code_words(sow_code code);

/* The exit status a program that fails with `code` ends in: 0, 1, 2 or 75. */
int sow_code_exit(sow_code code);

/* The message of the last failure on this thread, without the place in the source; "" if there was none.  Valid until
 * the next failure on this thread. */
const char *sow_error_text(void);

/* "src/...:line" of that failure, for logs at level debug. */
const char *sow_error_where(void);

/* Records a failure and returns `code`; use SOW_FAIL, which knows file and line.  The arguments may contain
 * sow_error_text() itself. */
sow_code sow_error_set(sow_code code, const char *file, int line, const char *fmt, ...) SOW_PRINTF(4, 5);

/* Return a failure from where it is DETECTED.  Callers above only propagate. */
#define SOW_FAIL(code, ...) sow_error_set((code), __FILE__, __LINE__, __VA_ARGS__)

/* Propagate a failure: from a function that holds nothing (TRY), or through its one `done:` label (TRY_OR; `rc` is a
 * sow_code of the function), which frees in reverse order. */
#define SOW_TRY(call)                                                                                                  \
    do {                                                                                                               \
        sow_code sow_rc_ = (call);                                                                                     \
        if (sow_rc_ != SOW_OK)                                                                                         \
            return sow_rc_;                                                                                            \
    } while (0)
#define SOW_TRY_OR(rc, call)                                                                                           \
    do {                                                                                                               \
        (rc) = (call);                                                                                                 \
        if ((rc) != SOW_OK)                                                                                            \
            goto done;                                                                                                 \
    } while (0)

/* A programmer's error: prints where and stops the process.  Never for input. */
#define SOW_ASSERT(cond) ((cond) ? (void)0 : sow_assert_failed(#cond, __FILE__, __LINE__))
void sow_assert_failed(const char *cond, const char *file, int line) __attribute__((noreturn));

#endif
