/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text of guests, files and peers, before a person sees it. */
#ifndef LODGE_BASE_TEXT_H
#define LODGE_BASE_TEXT_H

/*
 * What a terminal obeys becomes '?', in place: control characters (C0 and DEL, and C1 in UTF-8) but for those in `keep`.
 * UTF-8 stays UTF-8.  Returns s.  [any thread]
 */
char *text_plain(char *s, const char *keep);

#endif
