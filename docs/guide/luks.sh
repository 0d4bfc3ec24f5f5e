# LUKS encryption for data directories
cryptsetup luksFormat /dev/sdb
cryptsetup luksOpen /dev/sdb encrypted_storage
# Mount encrypted volume
mkfs.ext4 /dev/mapper/encrypted_storage
mount /dev/mapper/encrypted_storage /var/lib/tietai-healthcare-integration
# Auto-mount on boot
echo "encrypted_storage /var/lib/tietai-healthcare-integration ext4 defaults 0 2" >> /etc/fstab
