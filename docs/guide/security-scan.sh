#!/bin/bash
# security-scan.sh
# Static code analysis
echo "Running static analysis..."
bandit -r app/ -f json -o security-report.json
# Dependency vulnerability check
echo "Checking dependencies..."
safety check --json --output dependency-report.json
# Container security scan
echo "Scanning container..."
trivy image --format json --output container-report.json healthcare-integration:latest
# SSL/TLS configuration check
echo "Checking SSL configuration..."
testssl.sh --jsonfile ssl-report.json https://your-platform.tietai.com
# Generate combined report
python generate_security_report.py
