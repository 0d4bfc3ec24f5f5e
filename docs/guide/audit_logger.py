class AuditLogger:
    def __init__(self):
        self.logger = logging.getLogger('audit')
        handler = logging.handlers.SysLogHandler(address='/dev/log')
        formatter = logging.Formatter(
            'AUDIT: %(asctime)s %(message)s',
            datefmt='%Y-%m-%d %H:%M:%S'
        )
        handler.setFormatter(formatter)
        self.logger.addHandler(handler)
        self.logger.setLevel(logging.INFO)

    def log_event(self, event_type: str, user_id: str, resource: str,
                  action: str, result: str, details: dict = None):
        audit_entry = {
            "timestamp": datetime.utcnow().isoformat(),
            "event_type": event_type,
            "user_id": user_id,
            "resource": resource,
            "action": action,
            "result": result,
            "ip_address": self.get_client_ip(),
            "user_agent": self.get_user_agent(),
            "details": details or {}
        }

        self.logger.info(json.dumps(audit_entry))
