# Create VLANs for different tiers
ip link add link eth0 name eth0.100 type vlan id 100 # Web tier
ip link add link eth0 name eth0.200 type vlan id 200 # App tier
ip link add link eth0 name eth0.300 type vlan id 300 # DB tier
# Configure IP addresses
ip addr add 10.0.1.10/24 dev eth0.100 # Web tier
ip addr add 10.0.2.10/24 dev eth0.200 # App tier
ip addr add 10.0.3.10/24 dev eth0.300 # DB tier
# Bring interfaces up
ip link set eth0.100 up
ip link set eth0.200 up
ip link set eth0.300 up
