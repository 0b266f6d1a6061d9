/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See text.h. */
#include "base/text.h"

#include <string.h>

char *text_plain(char *s, const char *keep)
{
	for (unsigned char *p = (unsigned char *)s; *p; p++) {
		if ((*p < ' ' || *p == 0x7f) && !strchr(keep, *p))
			*p = '?';
		else if (*p == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f)
			p[0] = p[1] = '?';
	}
	return s;
}
