# Reset UFW
ufw --force reset
# Default policies
ufw default deny incoming
ufw default allow outgoing
# SSH (restrict to management network)
ufw allow from 10.0.0.0/8 to any port 22
# HTTPS only
ufw allow 443/tcp
# Application monitoring
ufw allow from 10.0.1.0/24 to any port 9090 # Prometheus
ufw allow from 10.0.1.0/24 to any port 3000 # Grafana
# Healthcare system networks
ufw allow from 192.168.100.0/24 to any port 2575 # HL7 MLLP (see https://www.hl7.org/implement/standards/product_brief.cfm?product_id=185)
# Enable firewall
ufw enable
