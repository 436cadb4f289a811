/* SPDX-License-Identifier: Apache-2.0 */
/* What every fuzz target includes.  A target is a file tests/fuzz/fuzz_NAME.c whose first line is "// NEEDS: layer...",
 * with kept inputs under tests/fuzz/corpus/NAME/.  With SOW_FUZZ (clang) it is linked with libFuzzer
 * (tests/fuzz/run.sh); in every other build with replay.c, and a test runs all kept inputs through it.
 *
 * Needs: error. */
#ifndef SOWER_TESTS_FUZZ_H
#define SOWER_TESTS_FUZZ_H

#include "sower/alloc.h"
#include "sower/error.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a target defines: called with every input; returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes); /* NOLINT(readability-identifier-naming) */

/* A condition that holds for every input whatever. */
#define FUZZ_CHECK(cond)                                                                                               \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            (void)fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #cond, sow_error_text());            \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* A failure says on one line what is wrong. */
#define FUZZ_CHECK_MESSAGE() FUZZ_CHECK(sow_error_text()[0] != '\0' && strpbrk(sow_error_text(), "\r\n") == NULL)

#endif
