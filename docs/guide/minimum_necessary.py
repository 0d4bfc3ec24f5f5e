class DataMinimization:
    @staticmethod
    def filter_phi_fields(data: dict, user_role: str, purpose: str) -> dict:
        """Filter PHI based on minimum necessary standard"""

        # Define field access levels
        field_access = {
            "viewer": ["id", "name", "gender", "age_range"],
            "nurse": ["id", "name", "gender", "birth_date", "address"],
            "doctor": ["id", "name", "gender", "birth_date", "address", "ssn", "phone"],
            "admin": ["*"]  # All fields
        }

        allowed_fields = field_access.get(user_role, [])

        if "*" in allowed_fields:
            return data

        return {k: v for k, v in data.items() if k in allowed_fields}
