/* SPDX-License-Identifier: GPL-2.0-or-later */
/* open takes the lowest free number, so in ascending order each lands in its place. */
#include "base/stdfds.h"

#include <errno.h>
#include <fcntl.h>

int std_fds_open(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
			return -errno;
	return 0;
}
