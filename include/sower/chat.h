/* SPDX-License-Identifier: Apache-2.0 */
/* Chat templates: the families' own formats, chosen by detection.  Template code is never run.
 *
 * Needs: tokenizer, words.  Threads: pure functions. */
#ifndef SOWER_CHAT_H
#define SOWER_CHAT_H

#include "sower/tokenizer.h"

struct sow_words;

/* The format's name ("chatml") that this tokenizer's special tokens and (if not NULL) the text of its template show; NULL if none
 * is known. */
const char *sow_chat_detect(const sow_tokenizer *tokenizer, const char *template_text);

/* Wraps one user turn and opens the assistant's.  system may be NULL: no system turn is added.  SOW_EARG for an unknown format. */
SOW_NODISCARD sow_code sow_chat_wrap(const char *format, const char *system, const char *user, size_t user_bytes, struct sow_words *out);

#endif
