// SPDX-License-Identifier: GPL-2.0-or-later
/* Stream sockets between the guest and unix sockets of the host (--vsock). */
#include "virtio/vsock.h"

#include "vm/internal.h"

int vm_add_vsock(struct vm *vm, struct err *e)
{
	const struct vm_config *cfg = vm->cfg;
	struct virtio_dev *dev;
	int ret;

	if (!cfg->vsock_path)
		return 0;
	ret = virtio_vsock_new(vm->m, "vsock0", cfg->vsock_cid ? cfg->vsock_cid : VIRTIO_VSOCK_CID_MIN, cfg->vsock_path, &dev, e);
	if (ret)
		return err_prefix(e, ret, "--vsock");
	ret = platform_add_virtio(vm->platform, dev, e);
	if (!ret)
		vm->vsock = dev;
	return ret;
}
